"""Enrolment: captures to a template, base OT with the server, and the two halves to their holders."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from device_sdk.biometrics import BinaryCode, BinaryCodeEncoder, Encoder, differing_and_valid
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.errors import EncodingError, ServerMisbehaved, ServerUnavailable, TransportError
from device_sdk.server_api import ServerApi
from device_sdk.transport import RequestKey
from device_sdk.vault.state import DeviceState
from mpc.errors import ProtocolAbort
from mpc.login.enrolment_messages import EnrolmentFinish, EnrolmentStart
from mpc.login.profile import Profile
from mpc.login.template import share_template
from mpc.ot.base_ot import BaseOtContext, sender_round_1
from mpc.primitives.rng import Rng

MIN_CAPTURES = 3
_FINISH_TRIES = 3


def enrol(
    rng: Rng,
    api: ServerApi,
    *,
    server_url: str,
    code: str,
    profile_name: str,
    captures: Sequence[Any],
    encoder: Encoder | None,
    report: ReportBuilder,
) -> DeviceState:
    """The state after enrolment: what the caller stores in a fresh vault.

    The captures are checked before the server is asked for anything, so a bad set costs no code. Raises
    EncodingError, InconsistentCaptures, EnrolmentRefused, ServerMisbehaved, TransportError, ServerRefused.
    """
    profile = api.profile(profile_name)
    encoder = encoder or default_encoder(profile)
    check_encoder(encoder, profile)
    codes, masks = make_templates(encoder, captures, profile)
    request_key = RequestKey.generate()
    offer = api.start_enrolment(
        EnrolmentStart(profile.name, profile.digest, request_key.public_point(), code), request_key, report
    )
    try:
        base_keys, sender_message = sender_round_1(
            rng, BaseOtContext(offer.enrolment_id, offer.base_ot_id), offer.receiver_message
        )
    except ProtocolAbort as abort:
        raise ServerMisbehaved(abort.reason) from None
    own, server = share_template(rng, codes, masks)
    finish = EnrolmentFinish(
        enrolment_id=offer.enrolment_id,
        base_ot_id=offer.base_ot_id,
        code=code,
        sender_message=sender_message,
        share=server,
    )
    _finish(api, finish, request_key, report)
    return DeviceState(
        server_url=server_url,
        server_id=offer.server_id,
        profile=profile,
        enrolment_id=offer.enrolment_id,
        request_key=request_key.to_scalar(),
        base_ot_id=offer.base_ot_id,
        base_keys=base_keys,
        epoch=0,
        ot_index=0,
        template=own,
        history_from=0,
    )


def default_encoder(profile: Profile) -> Encoder:
    """For codes given directly, as the profile wants them."""
    return BinaryCodeEncoder(profile.code_bits, masked=profile.masked, encoder_id=profile.encoder_id)


def check_encoder(encoder: Encoder, profile: Profile) -> None:
    """The encoder must be the one the profile was measured with. Raises EncodingError."""
    if (encoder.encoder_id, encoder.code_bits, encoder.masked) != (
        profile.encoder_id,
        profile.code_bits,
        profile.masked,
    ):
        raise EncodingError(
            f"this encoder is not the one of profile {profile.name}: pass the encoder that the profile names"
        )


def _finish(api: ServerApi, message: EnrolmentFinish, key: RequestKey, report: ReportBuilder) -> None:
    """Send the second request, again if the answer is lost: the code is spent by then, and repeating is safe."""
    for _ in range(_FINISH_TRIES - 1):
        with contextlib.suppress(TransportError, ServerUnavailable):
            api.finish_enrolment(message, key, report)
            return
    api.finish_enrolment(message, key, report)


def make_templates(encoder: Encoder, captures: Sequence[Any], profile: Profile) -> tuple[bytes, bytes]:
    """(codes, masks) of all templates, packed and concatenated."""
    groups = [captures] if profile.templates == 1 else list(captures)
    if len(groups) != profile.templates:
        raise EncodingError(f"profile {profile.name} takes {profile.templates} groups of captures, one a template")
    templates = [make_template(encoder, group, profile) for group in groups]
    codes = b"".join(template.packed() for template in templates)
    return codes, b"".join(template.packed_mask() or b"" for template in templates)


def make_template(encoder: Encoder, captures: Sequence[Any], profile: Profile) -> BinaryCode:
    """One template. The encoder judges by the profile's rule whether the captures are of one person.

    Raises EncodingError, InconsistentCaptures.
    """
    if not isinstance(captures, Sequence) or len(captures) < MIN_CAPTURES:
        raise EncodingError(f"enrolment takes {MIN_CAPTURES} or more captures for a template")

    def accepts(one: BinaryCode, other: BinaryCode) -> bool:
        return profile.accepts(*differing_and_valid(one, other))

    return encoder.enrol(captures, accepts)
