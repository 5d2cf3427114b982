"""The profile is pinned at enrolment. A server may make matching stricter later, never more lenient."""

from __future__ import annotations

from dataclasses import replace

from device_sdk.errors import ProfileChanged
from device_sdk.state_store import StateStore
from mpc.login.profile import Profile


def accept_tightened(store: StateStore, offered: Profile) -> None:
    """Pin `offered` in place of the current profile if it only accepts less. Raises ProfileChanged otherwise."""
    if not offered.tightens(store.state.profile):
        raise ProfileChanged
    store.change(lambda state: replace(state, profile=offered))
