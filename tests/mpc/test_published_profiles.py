"""Published profiles: what their digests bind, and what a device makes of a server that stretches them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from device_sdk.errors import ServerMisbehaved
from device_sdk.server_api import ServerApi
from device_sdk.transport import TransportReply
from mpc.login.measurement import Measurement
from mpc.login.profile import Profile
from mpc.login.published_profiles import MEASUREMENTS, PUBLISHED

FACE = PUBLISHED["face-2048"]

# A change is a new version of the profile, and noted in CHANGELOG.
DIGESTS = {
    "face-2048": "01675211efece2dfbf674b5ff374532ed878af54dab4584bc1b76ca3a4919a20",
    "iris-4096": "1c0012f51dd7103ac63fa6f4032475696d4eae41690bb862124ba1910c0f74a9",
    "iris-2048": "613bee1982580bbd74afff8d7c38358c7236f6eacb845a343c17cbaaeef07783",
}


class OneDocument:
    """A transport that answers with one profile document."""

    def __init__(self, document: Any) -> None:
        self.body = json.dumps(document).encode()

    def get_json(self, path: str, **_: Any) -> TransportReply:
        return TransportReply(body=self.body, bytes_up=0, bytes_down=len(self.body))


def document(profile: Profile, **more: Any) -> dict[str, Any]:
    return {**profile.as_dict(), "digest": profile.digest.hex(), "server_id": "auth.example", **more}


def fetched(served: dict[str, Any]) -> Profile:
    return ServerApi(OneDocument(served)).profile("face-2048")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_digests_are_pinned(name: str) -> None:
    assert PUBLISHED[name].digest.hex() == DIGESTS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_profile_has_its_measurement(name: str) -> None:
    measured = MEASUREMENTS[PUBLISHED[name].measured]

    assert measured.genuine_tries > 0 and measured.impostor_tries > 0
    assert measured.false_accepts == measured.crafted_accepts == 0
    assert Measurement.from_dict(measured.as_dict()) == measured


def test_a_measurement_that_is_polished_has_another_digest() -> None:
    """Otherwise an enrolment would not be bound to the error rates it was made under."""
    measured = MEASUREMENTS[FACE.measured]
    polished = replace(measured, false_rejects=0)

    assert polished.digest != measured.digest
    assert replace(FACE, measured=polished.digest).digest != FACE.digest


def test_optional_fields_at_their_default_are_not_in_the_digest() -> None:
    """Enrolments made before these fields existed go on."""
    plain = Profile(name="sim-2048", code_bits=2048, threshold=655, encoder_id="binary-code-v1")

    assert not {"version", "measured"} & set(plain.as_dict())
    assert plain.digest.hex() == "312ac095d294bc9dbc822ecd61577f389bc7cf8664dcd2665058d291f1b2a0f4"
    assert replace(plain, version=1).digest != plain.digest


def test_a_device_takes_the_published_profile_and_a_stricter_one() -> None:
    measurement = MEASUREMENTS[FACE.measured].as_dict()
    stricter = replace(FACE, threshold=582, thresholds=(582, 563, 552))

    assert fetched(document(FACE, measurement=measurement)) == FACE
    assert fetched(document(stricter, measurement=measurement)) == stricter
    assert fetched(document(FACE)) == FACE


@pytest.mark.parametrize(
    "served",
    [
        document(replace(FACE, threshold=584, thresholds=(584, 563, 552))),
        document(replace(FACE, thresholds=(583, 564, 552))),
        document(replace(FACE, thresholds=(583, 563, 552, 544))),
        document(replace(FACE, templates=2, threshold=563)),
        {**document(FACE), "thresholds": [583, 583, 583]},
        {**document(FACE), "thresholds": 583},
        document(replace(FACE, version=0)),
        document(replace(FACE, measured="")),
        document(FACE, measurement={**MEASUREMENTS[FACE.measured].as_dict(), "false_rejects": 0}),
        document(FACE, measurement={"data": "none"}),
        document(FACE, measurement=7),
        {**document(FACE), "name": "face-4096"},
        {**document(FACE), "surprise": 1},
        [],
    ],
    ids=[
        "looser", "looser for two", "more of them", "two at once", "the same for all", "a number", "older",
        "unmeasured", "polished", "empty", "number", "renamed", "surprise", "list",
    ],
)  # fmt: skip
def test_a_device_refuses_what_only_looks_like_the_published_profile(served: Any) -> None:
    with pytest.raises(ServerMisbehaved):
        fetched(served)


@pytest.mark.parametrize(
    "change",
    [
        {"data": ""},
        {"data": "x" * 301},
        {"subjects": -1},
        {"false_rejects": 141},
        {"crafted_accepts": 10**9},
        {"subjects": True},
    ],
    ids=str,
)
def test_measurements_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(MEASUREMENTS[FACE.measured], **change)
