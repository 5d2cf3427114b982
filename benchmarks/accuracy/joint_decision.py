"""The protocol's own decision: whole logins between both sides' code as bytes, on one machine and without a store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import rsa

from device_sdk.biometrics import BinaryCode
from mpc.login.authenticator_data import assertion_data
from mpc.login.device_side import DeviceLogin, DeviceLoginState, LoginRequest, Match, Probe
from mpc.login.messages import Message1
from mpc.login.profile import Profile
from mpc.login.server_side import Answer, ServerLoginState, decide
from mpc.login.template import TemplateShare, share_template
from mpc.ot.base_ot import BaseOtContext, receiver_round_1, receiver_round_2, sender_round_1
from mpc.primitives.rng import SystemRng
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, split

_SERVER_ID, _RP_ID = "accuracy", "localhost"


@dataclass(slots=True)
class Enrolled:
    """One enrolment, both halves. Each call of `accepts` is one login; no share is refreshed between."""

    device: DeviceLoginState = field(repr=False)
    server: ServerLoginState = field(repr=False)
    logins: int = 0

    @classmethod
    def of(cls, profile: Profile, *templates: BinaryCode) -> Enrolled:
        """Runs the base OT and splits the templates. The RSA key is one for all: it does not bear on the decision."""
        rng = SystemRng()
        context = BaseOtContext(os.urandom(16), os.urandom(16))
        received = receiver_round_1(rng, context)
        device_base, reply = sender_round_1(rng, context, received.message)
        codes = b"".join(template.packed() for template in templates)
        own, server = share_template(rng, codes, b"".join(template.packed_mask() or b"" for template in templates))
        device_key, server_key = _key_shares()
        credential_id = os.urandom(32)
        return cls(
            DeviceLoginState(
                enrolment_id=context.enrolment_id,
                server_id=_SERVER_ID,
                profile=profile,
                base_ot_id=context.base_ot_id,
                base_keys=device_base,
                epoch=0,
                template=own,
                credential_id=credential_id,
                algorithm=Algorithm.RS256,
                key_share=device_key,
            ),
            ServerLoginState(
                server_id=_SERVER_ID,
                profile=profile,
                algorithm=Algorithm.RS256,
                base_keys=receiver_round_2(context, received, reply),
                template=TemplateShare.from_bytes(profile, server.to_bytes()),
                key_share=server_key,
            ),
        )

    def accepts(self, probe: BinaryCode) -> bool:
        """Whether a signature came out."""
        self.logins += 1
        request = LoginRequest("get", self.logins, assertion_data(_RP_ID, self.logins), os.urandom(32))
        codes = probe.packed() * self.device.profile.probe_codes
        login = DeviceLogin(SystemRng(), self.device, request, Probe(codes=codes, mask=probe.packed_mask() or b""))
        verdict = decide(SystemRng(), self.server, Message1.decode(login.message_1), login.message_1)
        assert isinstance(verdict, Answer), "an honest login failed a check"
        return isinstance(login.finish(verdict.message_2), Match)


@lru_cache(maxsize=1)
def _key_shares() -> tuple[KeyShare, KeyShare]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    return split(SystemRng(), PublicKey(key.public_numbers.n), key.d)
