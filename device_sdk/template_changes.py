"""One more template for an enrolment, or one less, under a match with one that it has. No operator is needed.

The server is told of the change, and then the device logs in over its hash. From the moment that the match is written
to the vault the change is a part of the next epoch's shares: it comes true with their confirmation, or, where the
server does not know that login any more, is dropped with them (rows D5 and D6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.biometrics import BinaryCode
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.confirmer import Confirmer
from device_sdk.errors import (
    DeviceRestored,
    LockedOut,
    NoSuchTemplate,
    ProfileChanged,
    ServerMisbehaved,
    ServerRefused,
    ServerUnavailable,
    TooManyTemplates,
    TransportError,
)
from device_sdk.match_login import MATCH_TIMEOUT_S, mark_overtaken, settle_confirmation, show_match
from device_sdk.profile_pinning import accept_tightened
from device_sdk.server_api import Deadline, ServerApi
from device_sdk.state_store import StateStore
from device_sdk.transport import RequestKey
from device_sdk.vault.state import DeviceState
from mpc.login.enrolment_messages import Accepted
from mpc.login.profile import Profile
from mpc.login.template import TemplateShare, share_template
from mpc.login.template_messages import AddTemplate, RemoveTemplate
from mpc.primitives.rng import Rng

_ATTEMPTS = 2
_ANNOUNCEMENTS = 3

Probe = Callable[[], BinaryCode]
"""Asks for the capture that shows the match, once the server has let the change be announced."""


def settle_change(store: StateStore, confirmer: Confirmer) -> None:
    """Have a change whose match was shown come true, or drop it, before a login is made: message 1 for other templates
    than the server has is of another size, so it could not even carry the confirmation along.

    Call with `store.in_flight` held. Raises DeviceRestored, TransportError, and the faults of `raise_as_fault`.
    """
    upcoming = store.state.next
    if upcoming is not None and upcoming.templates is not None:
        settle_confirmation(store, confirmer)


@dataclass(frozen=True, slots=True)
class _Change:
    """What the server is told, and what becomes of this device's share."""

    message: AddTemplate | RemoveTemplate
    applied: Callable[[TemplateShare], TemplateShare]


@dataclass(frozen=True, slots=True)
class TemplateChanger:
    """What both changes need. Call its methods with `store.in_flight` held."""

    rng: Rng
    store: StateStore
    api: ServerApi
    confirmer: Confirmer
    now: float
    report: ReportBuilder

    def profile_with_one_more(self) -> Profile:
        """By whose rule the captures of the new template must agree. Settles what is outstanding first.

        Raises TooManyTemplates, DeviceRestored, TransportError, and the faults of `raise_as_fault`.
        """
        profile = self._settled_profile()
        if not profile.thresholds:
            # Pinned before the server allowed for more; the next login would adopt it too.
            with contextlib.suppress(ProfileChanged):
                accept_tightened(self.store, self.api.profile(profile.name))
            profile = self.store.state.profile
        if profile.templates >= profile.max_templates:
            raise TooManyTemplates
        return profile.with_templates(profile.templates + 1)

    def add(self, template: BinaryCode, after: Profile, match: Probe, code: str | None) -> bool:
        """For the result and the faults see `Device.add_template`."""

        def prepared(state: DeviceState) -> _Change:
            own, server = share_template(self.rng, template.packed(), template.packed_mask() or b"")
            message = AddTemplate(state.enrolment_id, state.epoch, after.digest, server, code)
            return _Change(message, lambda share: share.with_template(own))

        return self._changed(prepared, after, match)

    def remove(self, position: int, match: Probe) -> bool:
        """For the result and the faults see `Device.remove_template`."""
        profile = self._settled_profile()
        if not 0 <= position < profile.templates or profile.templates - 1 not in profile.template_counts:
            raise NoSuchTemplate
        after = profile.with_templates(profile.templates - 1)

        def prepared(state: DeviceState) -> _Change:
            message = RemoveTemplate(state.enrolment_id, state.epoch, after.digest, position)
            return _Change(message, lambda share: share.without_template(position, profile))

        return self._changed(prepared, after, match)

    def _settled_profile(self) -> Profile:
        if self.store.state.overtaken:
            raise DeviceRestored
        settle_confirmation(self.store, self.confirmer)
        return self.store.state.profile

    def _changed(self, prepared: Callable[[DeviceState], _Change], after: Profile, match: Probe) -> bool:
        probe = None
        for _ in range(_ATTEMPTS):
            change = prepared(self.store.state)
            self._announce(change.message)
            probe = match() if probe is None else probe
            try:
                show_match(
                    self.rng,
                    self.store,
                    self.api,
                    ClientDataHash(change.message.challenge),
                    probe,
                    kind="change",
                    deadline=Deadline(MATCH_TIMEOUT_S),
                    now=self.now,
                    report=self.report,
                    change=change.applied,
                    on_match=lambda state: _with(state, after),
                )
            except ServerRefused as fault:
                if fault.code != "wrong_state":
                    raise
                continue  # an earlier announcement arrived once more, after this one; nothing was consumed
            return self._confirmed(after)
        raise ServerUnavailable

    def _announce(self, message: AddTemplate | RemoveTemplate) -> None:
        """The server keeps the last announcement until its epoch is over, so saying one again is safe."""
        state = self.store.state
        try:
            accepted = self._said(message, RequestKey.from_scalar(state.request_key))
        except ServerRefused as refusal:
            if refusal.code != "profile_changed":
                raise
            # Whether the captures still agree is to be judged by the stricter rule, so from the beginning.
            accept_tightened(self.store, self.api.profile(state.profile.name))
            raise ProfileChanged from None
        if accepted.epoch > state.epoch:
            mark_overtaken(self.store)
            raise DeviceRestored
        if accepted.epoch < state.epoch:
            raise ServerMisbehaved("wrong_epoch")

    def _said(self, message: AddTemplate | RemoveTemplate, key: RequestKey) -> Accepted:
        for _ in range(_ANNOUNCEMENTS - 1):
            with contextlib.suppress(TransportError, ServerUnavailable):
                return self.api.announce_change(message, key, self.report)
        return self.api.announce_change(message, key, self.report)

    def _confirmed(self, after: Profile) -> bool:
        """Tell the server of the match; False if it could not be told yet."""
        try:
            settle_confirmation(self.store, self.confirmer)
        except (TransportError, ServerUnavailable, LockedOut):
            self.confirmer.start()
            return False
        if self.store.state.profile.templates != after.templates:
            raise ServerUnavailable  # it does not know that login any more, and all is as it was
        return True


def _with(state: DeviceState, after: Profile) -> DeviceState:
    """The next epoch's shares are those of the templates after the change."""
    assert state.next is not None
    return replace(state, next=replace(state.next, templates=after.templates))
