"""Enrolment: captures to a template, base OT with the server, and the two halves to their holders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from device_sdk.biometrics import BinaryCode, Encoder, consistent, differing_and_valid
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.errors import EncodingError, ServerMisbehaved
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


def enrol(
    rng: Rng,
    api: ServerApi,
    *,
    server_url: str,
    code: str,
    profile_name: str,
    captures: Sequence[Any],
    encoder: Encoder,
    report: ReportBuilder,
) -> DeviceState:
    """The state after enrolment: what the caller stores in a fresh vault.

    The captures are checked before the server is asked for anything, so a bad set costs no code. Raises
    EncodingError, InconsistentCaptures, EnrolmentRefused, ServerMisbehaved, TransportError, ServerRefused.
    """
    profile = api.profile(profile_name)
    check_encoder(encoder, profile)
    codes, masks = _template(encoder, captures, profile)
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
    own, server = share_template(rng, codes * profile.templates, masks * profile.templates)
    api.finish_enrolment(
        EnrolmentFinish(
            enrolment_id=offer.enrolment_id,
            base_ot_id=offer.base_ot_id,
            code=code,
            sender_message=sender_message,
            codes_share=server.codes,
            masks_share=server.masks,
        ),
        request_key,
        report,
    )
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
    )


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


def _template(encoder: Encoder, captures: Sequence[Any], profile: Profile) -> tuple[bytes, bytes]:
    """(codes, masks) of one template, packed. The captures must agree with each other pairwise."""
    if len(captures) < MIN_CAPTURES:
        raise EncodingError(f"enrolment takes {MIN_CAPTURES} or more captures")

    def accepts(one: BinaryCode, other: BinaryCode) -> bool:
        return profile.accepts(*differing_and_valid(one, other))

    consistent([encoder.encode(sample) for sample in captures], accepts)
    template = encoder.enrol(captures)
    return template.packed(), template.packed_mask() or b""
