"""Whole logins with the profile sim-512: a passkey's life with RS256, one login with PS256, one that does not match."""

from __future__ import annotations

from device_sdk.authenticator.attestation import none_attestation, packed_self_attestation
from device_sdk.authenticator.client_data import Ceremony, ClientData, build_client_data
from device_sdk.authenticator.origin import parse_origin
from device_sdk.authenticator.responses import authentication_response, registration_response
from interop.drawing import Draws
from interop.enrolled import (
    CREDENTIAL_ID,
    ENROLMENT_ID,
    ORIGIN,
    RP_ID,
    SIM_512,
    USER_HANDLE,
    Enrolled,
    enrolled,
)
from interop.given_keys import GivenKey, given_key
from interop.joint_login import IN_FULL, MESSAGES_ONLY, Detail, Run, run_login
from interop.notation import Json, message, topic
from interop.pair import Pair, enrolled_pair
from mpc.login.authenticator_data import assertion_data, cose_rsa_key, registration_data
from mpc.login.device_side import LoginRequest, Match, Probe
from mpc.login.messages import Acknowledgement, Message3
from mpc.primitives import base64url
from mpc.threshold_rsa.encodings import Algorithm

_SECTIONS = ["docs/protocol.md 6", "docs/protocol.md 7", "docs/protocol.md 8", "docs/protocol.md 11"]
_STATES = (
    "The base-OT keys are those of base-ot.json. Numbers of the draws count through the file, one stream for each side."
)


def rs256() -> Json:
    """Registration, confirmed by message 3; a login that is not; a login that carries the confirmation along."""
    key, person = given_key(2048), enrolled(SIM_512, "tandem vectors: template of login-rs256")
    device, server = Draws("tandem vectors: login-rs256, device"), Draws("tandem vectors: login-rs256, server")
    pair, content = enrolled_pair(SIM_512, Algorithm.RS256, key, person, device)

    created = _client_data(Ceremony.CREATE, 1)
    cose = cose_rsa_key(Algorithm.RS256, key.public.modulus, key.public.exponent)
    data = registration_data(RP_ID, 1, CREDENTIAL_ID, cose)
    first, match_1 = _matching(pair, "create", data, created, person, 163, device, server)
    pair.confirmed(first, match_1)
    confirmation = Message3(ENROLMENT_ID, match_1.confirmation).encode()
    after_first = pair.shown()

    signed_2 = _client_data(Ceremony.GET, 2)
    data_2 = assertion_data(RP_ID, 2)
    second, match_2 = _matching(pair, "get", data_2, signed_2, person, 0, device, server, detail=MESSAGES_ONLY)
    unconfirmed = pair.shown()
    # The next message 1 is of the epoch that the confirmation leads to, made with the shares of that epoch.
    pair.confirmed(second, match_2)
    signed_3 = _client_data(Ceremony.GET, 3)
    data_3 = assertion_data(RP_ID, 3)
    third, match_3 = _matching(
        pair, "get", data_3, signed_3, person, 100, device, server, detail=MESSAGES_ONLY, confirmation_of=match_2
    )
    before_last = pair.shown()
    pair.confirmed(third, match_3)
    return topic(
        "Logins with RS256",
        f"One passkey from its registration on. {_STATES} The first login differs from the template in exactly as "
        "many bits as the threshold allows, and is written out in full.",
        _SECTIONS,
        {
            "device_seed": device.seed,
            "server_seed": server.seed,
            **content,
            "logins": [
                {
                    "about": "registration, distance 163 of at most 163, confirmed by message 3",
                    "client_data": _shown(created),
                    **first.shown,
                    "message_3": message("message 3", "device", "POST /v1/confirmations", confirmation),
                    "acknowledgement": message(
                        "acknowledgement", "server", "answer to POST /v1/confirmations", Acknowledgement(1).encode()
                    ),
                    "state_after": after_first,
                    "webauthn": _registration(created, data, match_1.signature, key),
                },
                {
                    "about": "login, distance 0; its message 3 is lost",
                    "client_data": _shown(signed_2),
                    **second.shown,
                    "state_after": unconfirmed,
                    "webauthn": _assertion(signed_2, data_2, match_2.signature),
                },
                {
                    "about": "login, distance 100, whose message 1 carries the confirmation of the one before",
                    "client_data": _shown(signed_3),
                    "state_before, on both sides once `confirm` was seen": before_last,
                    **third.shown,
                    "state_after, once confirmed": pair.shown(),
                    "webauthn": _assertion(signed_3, data_3, match_3.signature),
                },
            ],
        },
    )


def ps256() -> Json:
    """One login with a salt, by a key of 3,072 bits."""
    key, person = given_key(3072), enrolled(SIM_512, "tandem vectors: template of login-ps256")
    device, server = Draws("tandem vectors: login-ps256, device"), Draws("tandem vectors: login-ps256, server")
    pair, content = enrolled_pair(SIM_512, Algorithm.PS256, key, person, device)
    signed, data = _client_data(Ceremony.GET, 4), assertion_data(RP_ID, 1)
    run, match = _matching(pair, "get", data, signed, person, 42, device, server)
    pair.confirmed(run, match)
    return topic(
        "A login with PS256",
        f"A key of 3,072 bits. {_STATES} The salt is in message 1: both sides encode the same EM.",
        _SECTIONS,
        {
            "device_seed": device.seed,
            "server_seed": server.seed,
            **content,
            "logins": [
                {
                    "about": "login, distance 42",
                    "client_data": _shown(signed),
                    **run.shown,
                    "state_after, once confirmed": pair.shown(),
                    "webauthn": _assertion(signed, data, match.signature),
                }
            ],
        },
    )


def no_match() -> Json:
    """A probe that differs in one bit too many: message 2 looks like any other, and nothing can be opened."""
    key, person = given_key(2048), enrolled(SIM_512, "tandem vectors: template of login-no-match")
    device, server = Draws("tandem vectors: login-no-match, device"), Draws("tandem vectors: login-no-match, server")
    pair, content = enrolled_pair(SIM_512, Algorithm.RS256, key, person, device)
    signed, data = _client_data(Ceremony.GET, 5), assertion_data(RP_ID, 1)
    run = _run(pair, "get", data, signed, person, 164, device, server)
    assert not isinstance(run.result, Match)
    return topic(
        "A login that does not match",
        f"The distance is 164 and the threshold 163. {_STATES} The server cannot tell this login from one that "
        "matched: it has the index and the counter used up, and never hears of it again.",
        _SECTIONS,
        {
            "device_seed": device.seed,
            "server_seed": server.seed,
            **content,
            "logins": [
                {
                    "about": "login, distance 164 of at most 163",
                    "client_data": _shown(signed),
                    **run.shown,
                    "state_after": pair.shown(),
                }
            ],
        },
    )


def _matching(
    pair: Pair,
    kind: str,
    data: bytes,
    client_data: ClientData,
    person: Enrolled,
    distance: int,
    device: Draws,
    server: Draws,
    *,
    detail: Detail = IN_FULL,
    confirmation_of: Match | None = None,
) -> tuple[Run, Match]:
    run = _run(
        pair,
        kind,
        data,
        client_data,
        person,
        distance,
        device,
        server,
        detail=detail,
        confirmation_of=confirmation_of,
    )
    assert isinstance(run.result, Match)
    return run, run.result


def _run(
    pair: Pair,
    kind: str,
    data: bytes,
    client_data: ClientData,
    person: Enrolled,
    distance: int,
    device: Draws,
    server: Draws,
    *,
    detail: Detail = IN_FULL,
    confirmation_of: Match | None = None,
) -> Run:
    pair.ot_index += 1
    pair.sign_count += 1
    request = LoginRequest(
        kind=kind,
        ot_index=pair.ot_index,
        authenticator_data=data,
        client_data_hash=client_data.hash,
        confirmation=confirmation_of.confirmation if confirmation_of else None,
    )
    probe = Probe(person.probe_at(distance), b"")
    return run_login(pair.device, pair.server, request, probe, device, server, detail=detail)


def _client_data(ceremony: Ceremony, number: int) -> ClientData:
    return build_client_data(ceremony, bytes([number] * 32), parse_origin(ORIGIN))


def _shown(client_data: ClientData) -> Json:
    return {"clientDataJSON": client_data.json.decode("utf-8"), "client_data_hash": client_data.hash.hex()}


def _registration(client_data: ClientData, data: bytes, signature: bytes, key: GivenKey) -> Json:
    """What the relying party gets, in both forms of attestation."""
    objects = {
        "none": none_attestation().object(data),
        "packed": packed_self_attestation(Algorithm.RS256, signature).object(data),
    }
    return {
        "challenge": base64url.encode(bytes([1] * 32)),
        **{
            form: registration_response(
                credential_id=CREDENTIAL_ID,
                client_data=client_data,
                authenticator_data=data,
                attestation_object=attestation,
                algorithm=Algorithm.RS256,
                modulus=key.public.modulus,
                exponent=key.public.exponent,
                discoverable=None,
            )
            for form, attestation in objects.items()
        },
    }


def _assertion(client_data: ClientData, data: bytes, signature: bytes) -> Json:
    return authentication_response(
        credential_id=CREDENTIAL_ID,
        client_data=client_data,
        authenticator_data=data,
        signature=signature,
        user_handle=USER_HANDLE,
    )
