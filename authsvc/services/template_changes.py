"""One more template for an enrolment, or one less, under a match with one that it has.

| guard | stops |
|---|---|
| the device's request key, at the current epoch | whoever does not hold the device, and copies that were left behind |
| a confirmed login over the hash of this very change | whoever holds the device and is not the person |
| the profile's number of templates, each number with a threshold of its own | matching by chance with one of many |
| an operator's code, where the policy asks for one | code on the device that has the person's capture for a moment |

The device announces the change and then logs in with kind "change". The confirmation of that login makes the change, in
the transaction that moves both sides to fresh shares (row C2): there is no moment at which one side has made it and the
other could still give it up. What was announced is forgotten with the epoch that it was announced in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.login.enrolment_messages import Accepted
from mpc.login.profile import Profile
from mpc.login.template import TemplateShare
from mpc.login.template_messages import AddTemplate, RemoveTemplate
from mpc.primitives import codec

from ..errors import Refused
from ..sealing import DataKey
from ..store.codes import UNLIMITED, CodePurpose, find_code, take_code
from ..store.enrolments import EnrolmentRow, load_enrolment, update_enrolment
from ..store.event_names import EventName
from ..store.events import EventDetail
from ..store.logins import drop_pending_changes
from .context import ServiceContext, SignedRequest
from .frame import authenticated_enrolment, require_same_enrolment
from .one_time_codes import try_code
from .secrets_at_rest import open_change, seal_change

_CODES: Final[tuple[CodePurpose, ...]] = ("rotate", "rotate_unmatched")
"""An operator who lets a template be replaced lets one be added. It takes a match in any case."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Change:
    """What was announced: a template's share to be added, or else the position of the one to go."""

    share: TemplateShare | None = field(repr=False)
    position: int = 0
    code_hash: bytes | None = None
    """Of the operator's code, which is spent when the change is made."""

    def to_bytes(self) -> bytes:
        values: dict[str, object] = {"v": _VERSION}
        if self.share is not None:
            values |= self.share.as_map()
        else:
            values["position"] = self.position
        if self.code_hash is not None:
            values["code_hash"] = self.code_hash
        return codec.encode(values)

    @classmethod
    def from_bytes(cls, data: bytes) -> Change:
        with codec.reading(data, what="sealed_change", version=_VERSION) as fields:
            return cls(
                share=None if fields.has("position") else TemplateShare.from_fields(fields, templates=1),
                position=fields.uint("position") if fields.has("position") else 0,
                code_hash=fields.bytes("code_hash", length=32) if fields.has("code_hash") else None,
            )


@dataclass(frozen=True, slots=True)
class Changed:
    """The server's share of all templates after the change, how many they are, and what the audit log is told."""

    template: TemplateShare = field(repr=False)
    templates: int
    event: EventName
    detail: EventDetail


def add(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Keep what is to be added until the login that shows the match is confirmed; an earlier announcement is forgotten.

    The answer tells the current epoch; at another one than the device's nothing is kept. Repeating it changes nothing.
    Raises Refused: "unauthenticated", "not_active", "too_many_templates", "profile_changed", "code_required",
    "bad_enrolment_code", "throttled"; DecodeError.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
    message = AddTemplate.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    profile = _profile_in_service(ctx, enrolment)
    if not profile.thresholds:
        raise Refused("too_many_templates")
    message.share.check_fits(profile.with_templates(1), "add_template")
    if enrolment.epoch != message.epoch or enrolment.change_challenge == message.challenge:
        return Accepted(enrolment.epoch, enrolment.last_index).encode()
    if profile.templates >= profile.max_templates:
        raise Refused("too_many_templates")
    after = profile.with_templates(profile.templates + 1)
    if after.digest != message.profile_digest:
        raise Refused("profile_changed")
    code_hash = None
    if message.code is not None:
        code_hash = try_code(ctx, request, message.code, *_CODES, enrolment_id=enrolment.id).hash
    elif ctx.policy.added_templates_need_code:
        raise Refused("code_required")
    return _announced(ctx, enrolment, message, Change(message.share, code_hash=code_hash))


def remove(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """The same for a template that is to go. The last one stays: `template_rotation` replaces it.

    Raises Refused: "unauthenticated", "not_active", "no_such_template", "profile_changed"; DecodeError.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
    message = RemoveTemplate.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    profile = _profile_in_service(ctx, enrolment)
    if enrolment.epoch != message.epoch or enrolment.change_challenge == message.challenge:
        return Accepted(enrolment.epoch, enrolment.last_index).encode()
    if profile.templates < 2 or message.position >= profile.templates or not profile.thresholds:
        raise Refused("no_such_template")
    if profile.with_templates(profile.templates - 1).digest != message.profile_digest:
        raise Refused("profile_changed")
    return _announced(ctx, enrolment, message, Change(None, position=message.position))


def changed(
    ctx: ServiceContext,
    conn: Connection,
    key: DataKey,
    enrolment: EnrolmentRow,
    profile: Profile,
    template: TemplateShare,
) -> Changed | None:
    """The change that the login over its hash has shown the match for; spends the operator's code.

    profile, template: of the enrolment as it is. None if it cannot be made any more, since the policy or the code is
    another by now; the transaction has then written nothing for it.
    """
    if enrolment.change_challenge is None:
        return None
    change = Change.from_bytes(open_change(key, enrolment))
    count = profile.templates + (1 if change.share is not None else -1)
    event: EventName = "template_added" if change.share is not None else "template_removed"
    try:
        after = profile.with_templates(count)
        if change.share is not None:
            change.share.check_fits(after.with_templates(1), "sealed_change")
            result = template.with_template(change.share)
        else:
            result = template.without_template(change.position, profile)
    except (ValueError, DecodeError):
        return None
    detail: dict[str, str | int] = {"epoch": enrolment.epoch + 1, "templates": count}
    if change.share is not None and change.code_hash is None and ctx.policy.added_templates_need_code:
        return None
    if change.code_hash is not None:
        if not _spend(conn, change.code_hash, enrolment.id, ctx.clock()):
            return None
        detail["code_id"] = change.code_hash.hex()
    return Changed(result, count, event, detail)


def _announced(
    ctx: ServiceContext, enrolment: EnrolmentRow, message: AddTemplate | RemoveTemplate, change: Change
) -> bytes:
    key = ctx.data_key(enrolment.id)
    challenge = message.challenge
    with ctx.store.write_enrolment() as conn:
        current = load_enrolment(conn, enrolment.id, lock=True)
        if current is None:
            raise Refused("not_active")
        _profile_in_service(ctx, current)
        # The number of templates changes with the epoch only, so at this one all that was checked above still holds.
        if current.epoch == message.epoch and current.change_challenge != challenge:
            # A login that shows the match for an earlier change must not be confirmed as one for this: to its device
            # it was never heard of, and both sides stay as they are (row D6).
            drop_pending_changes(conn, current.id)
            update_enrolment(
                conn,
                current.id,
                change_challenge=challenge,
                sealed_change=seal_change(key, challenge, change.to_bytes()),
                updated_at=ctx.clock(),
            )
    return Accepted(current.epoch, current.last_index).encode()


def _profile_in_service(ctx: ServiceContext, enrolment: EnrolmentRow) -> Profile:
    profile = ctx.policy.profile_of(enrolment.profile_name, enrolment.templates)
    disabled = enrolment.consecutive_failures >= ctx.policy.limits.consecutive_before_disabled
    if enrolment.status != "active" or profile is None or disabled:
        raise Refused("not_active")
    return profile


def _spend(conn: Connection, code_hash: bytes, enrolment_id: bytes, now: float) -> bool:
    for purpose in _CODES:
        found = find_code(conn, code_hash, purpose, now, UNLIMITED)
        if found is not None and found.enrolment_id == enrolment_id:
            return take_code(conn, code_hash, purpose, now) is not None
    return False
