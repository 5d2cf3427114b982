"""The profile is pinned at enrolment. A server may make matching stricter later, never more lenient."""

from __future__ import annotations

from dataclasses import replace

from device_sdk.errors import ProfileChanged
from device_sdk.state_store import StateStore
from mpc.login.profile import Profile


def accept_tightened(store: StateStore, offered: Profile) -> None:
    """Pin `offered` in place of the current profile if it only accepts less. Raises ProfileChanged otherwise."""
    if not is_tightening(store.state.profile, offered):
        raise ProfileChanged
    store.change(lambda state: replace(state, profile=offered))


def is_tightening(pinned: Profile, offered: Profile) -> bool:
    """Whether `offered` differs from `pinned`, and only by accepting fewer probes."""
    same_but_for_the_rule = replace(
        offered,
        threshold=pinned.threshold,
        min_valid=pinned.min_valid,
        ratio_numerator=pinned.ratio_numerator,
    )
    return (
        offered != pinned
        and same_but_for_the_rule == pinned
        and offered.threshold <= pinned.threshold
        and offered.min_valid >= pinned.min_valid
        and offered.ratio_numerator <= pinned.ratio_numerator
    )
