"""Both sides of one passkey between its logins: what each keeps, and how a confirmation moves both on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from interop.drawing import Draws
from interop.enrolled import (
    BASE_OT_ID,
    CREDENTIAL_ID,
    ENROLMENT_ID,
    ORIGIN,
    RP_ID,
    SERVER_ID,
    USER_HANDLE,
    Enrolled,
    base_ot,
)
from interop.given_keys import GivenKey
from interop.joint_login import Run
from interop.notation import Json
from mpc.login import template
from mpc.login.device_side import DeviceLoginState, Match
from mpc.login.profile import Profile
from mpc.login.server_side import ServerLoginState
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.shares import refresh_offset, refreshed, split


@dataclass(slots=True)
class Pair:
    """Both sides of one passkey, and what they count. They exchange bytes only; here they stand side by side."""

    device: DeviceLoginState
    server: ServerLoginState
    epoch: int = 0
    ot_index: int = 0
    sign_count: int = 0

    def shown(self) -> Json:
        """The durable state of both sides that a login reads or changes."""
        common = {"epoch": self.epoch, "sign_count": self.sign_count}
        return {
            "device": {
                **common,
                "ot_index": self.ot_index,
                "d1": self.device.key_share.to_bytes().hex(),
                "t1": self.device.template.codes.hex(),
                "m1": self.device.template.masks.hex(),
            },
            "server": {
                **common,
                "last_index": self.ot_index,
                "d2": self.server.key_share.to_bytes().hex(),
                "t2": self.server.template.codes.hex(),
                "m2": self.server.template.masks.hex(),
            },
        }

    def confirmed(self, run: Run, match: Match) -> None:
        """Row C2 at the server and D5 at the device: the next shares hold on both sides."""
        share, answer = self.server.key_share, run.answer
        offset = refresh_offset(share.key, answer.session_id, answer.rho, CREDENTIAL_ID)
        self.server = replace(
            self.server,
            key_share=refreshed(share, offset),
            template=template.refreshed(self.server.template, answer.session_id, answer.rho, ENROLMENT_ID),
        )
        self.epoch += 1
        self.device = replace(
            self.device, key_share=match.next_key_share, template=match.next_template, epoch=self.epoch
        )


def enrolled_pair(
    profile: Profile, algorithm: Algorithm, key: GivenKey, person: Enrolled, draws: Draws
) -> tuple[Pair, Json]:
    """Both sides at epoch 0, and how they stand in a file."""
    keys = base_ot()
    with draws.named("d2, of which the highest B bits count") as drawn:
        device_share, server_share = split(draws, key.public, key.d)
    device = DeviceLoginState(
        enrolment_id=ENROLMENT_ID,
        server_id=SERVER_ID,
        profile=profile,
        base_ot_id=BASE_OT_ID,
        base_keys=keys.device_keys,
        epoch=0,
        template=person.device,
        credential_id=CREDENTIAL_ID,
        algorithm=algorithm,
        key_share=device_share,
    )
    server = ServerLoginState(
        server_id=SERVER_ID,
        profile=profile,
        algorithm=algorithm,
        base_keys=keys.server_keys,
        template=person.server,
        key_share=server_share,
    )
    pair = Pair(device, server)
    return pair, {
        "parameters": {
            "profile": profile.as_dict(),
            "profile digest": profile.digest.hex(),
            "server_id": SERVER_ID,
            "enrolment_id": ENROLMENT_ID.hex(),
            "base_ot_id": BASE_OT_ID.hex(),
            "rp_id": RP_ID,
            "origin": ORIGIN,
            "credential_id": CREDENTIAL_ID.hex(),
            "user_handle": USER_HANDLE.hex(),
            "algorithm": algorithm.name,
        },
        "key": {**key.shown(), "split": drawn},
        "template": {
            "seed": person.seed,
            "draws": person.draws,
            "about": "t and m, which nobody has in the clear after the enrolment",
            "t": person.codes.hex(),
            "m": person.masks.hex(),
        },
        "base_ot": {
            "device": {"k0": keys.device_keys.zeros.hex(), "k1": keys.device_keys.ones.hex()},
            "server": {"Delta": keys.server_keys.delta.hex(), "k_Delta": keys.server_keys.chosen.hex()},
        },
        "state": pair.shown(),
    }
