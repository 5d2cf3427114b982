"""Recovery and rotation of a template, each with a base OT of its own; templates added and given up, without one."""

from __future__ import annotations

from dataclasses import replace

from interop.drawing import Draws
from interop.enrolled import CREDENTIAL_ID, ENROLMENT_ID, SERVER_ID, SIM_512, BaseOt, base_ot, enrolled
from interop.notation import Json, message, topic
from interop.topics.enrolment import CODE, given_request_key
from mpc.login.enrolment_messages import Accepted, BaseOtOffer, RecoveryFinish, RecoveryStart
from mpc.login.messages import Confirmation
from mpc.login.rotation_messages import (
    RotationFinish,
    RotationOffer,
    RotationSettle,
    RotationSettled,
    RotationStart,
    rotation_challenge,
)
from mpc.login.template_messages import AddTemplate, RemoveTemplate

_RECOVERY_ID = bytes(range(0x60, 0x70))
_ROTATION_ID = bytes(range(0x70, 0x80))


def vectors() -> Json:
    return topic(
        "Recovery, rotation, and other templates",
        "Recovery and rotation begin with a base OT of their own, made as in base-ot.json with other ids and seeds.",
        ["docs/protocol.md 12", "docs/protocol.md 14"],
        {"recovery": _recovery(), "rotation": _rotation(), "templates": _templates()},
    )


def _recovery() -> Json:
    run, draws = base_ot("recovery", _RECOVERY_ID), Draws("tandem vectors: recovery, device")
    with draws.named("new request key", "token of the login before") as drawn:
        key, token = given_request_key(draws), draws.bytes(32)
    counters = ((CREDENTIAL_ID, 12),)
    start = RecoveryStart(ENROLMENT_ID, CODE, key.public_point(), 3)
    confirming = RecoveryStart(ENROLMENT_ID, CODE, key.public_point(), 3, Confirmation(9, token))
    return {
        "seed": draws.seed,
        "draws": drawn,
        **_base_ot(run),
        "messages": [
            message("RecoveryStart", "device", "POST /v1/recoveries, signed with the old key", start.encode()),
            message("RecoveryStart with confirm", "device", "POST /v1/recoveries", confirming.encode()),
            message(
                "BaseOtOffer",
                "server",
                "answer to POST /v1/recoveries",
                BaseOtOffer(ENROLMENT_ID, _RECOVERY_ID, SERVER_ID, run.receiver.message, 3).encode(),
            ),
            message(
                "RecoveryFinish",
                "device",
                "POST /v1/recoveries/finish, signed with the new key",
                RecoveryFinish(ENROLMENT_ID, _RECOVERY_ID, CODE, run.sender_message).encode(),
            ),
            message("Accepted", "server", "answer to POST /v1/recoveries/finish", Accepted(3, 40, counters).encode()),
        ],
    }


def _rotation() -> Json:
    run, person = base_ot("rotation", _ROTATION_ID), enrolled(SIM_512, "tandem vectors: the rotated template")
    finish = RotationFinish(ENROLMENT_ID, _ROTATION_ID, CODE, 3, 40, run.sender_message, person.server)
    return {
        **_base_ot(run),
        "template": {
            "seed": person.seed,
            "draws": person.draws,
            "t1": person.device.codes.hex(),
            "t2": person.server.codes.hex(),
        },
        "client_data_hash of the login": rotation_challenge(ENROLMENT_ID, _ROTATION_ID).hex(),
        "messages": [
            message("RotationStart", "device", "POST /v1/rotations", RotationStart(ENROLMENT_ID, CODE, 3).encode()),
            message(
                "RotationOffer",
                "server",
                "answer to POST /v1/rotations",
                RotationOffer(ENROLMENT_ID, _ROTATION_ID, run.receiver.message, 3, True).encode(),
            ),
            message("RotationFinish", "device", "POST /v1/rotations/finish", finish.encode()),
            message("Accepted", "server", "answer to POST /v1/rotations/finish", Accepted(4, 41).encode()),
            message(
                "RotationSettle",
                "device",
                "POST /v1/rotations/settle",
                RotationSettle(ENROLMENT_ID, _ROTATION_ID).encode(),
            ),
            message("RotationSettled", "server", "answer to POST /v1/rotations/settle", RotationSettled(True).encode()),
        ],
    }


def _templates() -> Json:
    """Announced with the match to come: the login is of kind `change`, over the announcement's challenge."""
    one = replace(SIM_512, thresholds=(163, 160))
    two = one.with_templates(2)
    person = enrolled(SIM_512, "tandem vectors: the template added later")
    add = AddTemplate(ENROLMENT_ID, 3, two.digest, person.server, CODE)
    without_code = AddTemplate(ENROLMENT_ID, 3, two.digest, person.server)
    remove = RemoveTemplate(ENROLMENT_ID, 4, one.digest, 0)
    return {
        "profile with two templates": two.as_dict(),
        "template": {
            "seed": person.seed,
            "draws": person.draws,
            "t1": person.device.codes.hex(),
            "t2": person.server.codes.hex(),
        },
        "client_data_hash of the login for the addition": add.challenge.hex(),
        "client_data_hash of the login for the removal": remove.challenge.hex(),
        "messages": [
            message("AddTemplate", "device", "POST /v1/templates/add", without_code.encode()),
            message("AddTemplate with a code", "device", "POST /v1/templates/add", add.encode()),
            message("Accepted", "server", "answer to POST /v1/templates/add", Accepted(3, 40).encode()),
            message("RemoveTemplate", "device", "POST /v1/templates/remove", remove.encode()),
        ],
    }


def _base_ot(run: BaseOt) -> Json:
    return {
        "base_ot": {
            "base_ot_id": run.context.base_ot_id.hex(),
            "server_seed": run.server_seed,
            "device_seed": run.device_seed,
            "k0": run.device_keys.zeros.hex(),
            "k1": run.device_keys.ones.hex(),
        }
    }
