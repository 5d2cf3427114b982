"""Logins of other profiles, by digest: several templates, masks, rotation, and the lengths that are in use."""

from __future__ import annotations

import numpy as np

from device_sdk.authenticator.client_data import Ceremony, build_client_data
from device_sdk.authenticator.origin import parse_origin
from interop.drawing import Draws
from interop.enrolled import ORIGIN, RP_ID, Enrolled, enrolled
from interop.given_keys import given_key
from interop.joint_login import DIGESTS, run_login
from interop.notation import Json, topic
from interop.pair import enrolled_pair
from interop.topics.garbling import MASKED_2048, SIM_2048
from mpc.login.authenticator_data import assertion_data
from mpc.login.device_side import LoginRequest, Match, Probe
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED
from mpc.primitives.bit_matrix import pack, unpack
from mpc.threshold_rsa.encodings import Algorithm

_TWO_TEMPLATES = Profile(name="two-512", code_bits=512, threshold=163, encoder_id="binary-code-v1", templates=2)
_CASES = (
    ("two templates of 512 bits, the probe near the second", _TWO_TEMPLATES, Algorithm.RS256, 2048, 150),
    ("2,048 bits, the usual length", SIM_2048, Algorithm.PS256, 2048, 600),
    ("2,048 bits with masks", MASKED_2048, Algorithm.RS256, 3072, 400),
    ("an iris turned by one of 64 columns", PUBLISHED["iris-2048"], Algorithm.RS256, 2048, 300),
)


def vectors() -> Json:
    return topic(
        "Logins of other profiles",
        "Matrices, tables and messages by length and SHA-256; whatever is short stands in full. The base-OT keys are "
        "those of base-ot.json, each login begins at epoch 0, with its own template, shares and draws.",
        ["docs/protocol.md 2", "docs/protocol.md 6", "docs/protocol.md 7", "docs/protocol.md 9"],
        {"logins": [_login(*case) for case in _CASES]},
    )


def _login(about: str, profile: Profile, algorithm: Algorithm, bits: int, distance: int) -> Json:
    person = enrolled(profile, f"tandem vectors: template of {profile.name}")
    device, server = Draws(f"tandem vectors: {profile.name}, device"), Draws(f"tandem vectors: {profile.name}, server")
    pair, content = enrolled_pair(profile, algorithm, given_key(bits), person, device)
    pair.ot_index = pair.sign_count = 1
    client_data = build_client_data(Ceremony.GET, bytes([6] * 32), parse_origin(ORIGIN))
    request = LoginRequest("get", pair.ot_index, assertion_data(RP_ID, pair.sign_count), client_data.hash)
    run = run_login(pair.device, pair.server, request, _probe(person, distance), device, server, detail=DIGESTS)
    assert isinstance(run.result, Match)
    pair.confirmed(run, run.result)
    return {
        "about": about,
        "device_seed": device.seed,
        "server_seed": server.seed,
        **{name: value for name, value in content.items() if name != "base_ot"},
        "client_data": {"clientDataJSON": client_data.json.decode(), "client_data_hash": client_data.hash.hex()},
        **run.shown,
        "state_after, once confirmed": pair.shown(),
    }


def _probe(person: Enrolled, distance: int) -> Probe:
    """One code near the last template, turned by one column where the profile turns; every 64th bit is unusable."""
    profile = person.profile
    code = unpack(person.probe_at(distance)).reshape(profile.templates, -1)[-1]
    mask = np.ones(profile.code_bits if profile.masked else 0, dtype=np.uint8)
    mask[::64] = 0
    if profile.rotation:
        column = profile.code_bits // profile.columns
        code, mask = np.roll(code, column), np.roll(mask, column)
    return Probe(pack(code) * profile.probe_codes, pack(mask))
