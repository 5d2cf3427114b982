"""The profile is pinned at enrolment. A server may make matching stricter later, never more lenient."""

from __future__ import annotations

from dataclasses import replace

from device_sdk.errors import ProfileChanged
from device_sdk.state_store import StateStore
from mpc.login.profile import Profile


def accept_tightened(store: StateStore, offered: Profile) -> None:
    """Pin `offered` in place of the current profile if it only accepts less. Raises ProfileChanged otherwise.

    offered: for as many templates as an enrolment begins with; compared, and pinned, for as many as this one has. One
    that allows for more templates, where the pinned one says nothing of that, is no more lenient: for the templates
    there are the rule stays, and whether there will be more is for this device to decide.
    """
    pinned, upcoming = store.state.profile, store.state.next
    try:
        tighter = offered.with_templates(pinned.templates)
        if upcoming is not None and upcoming.templates is not None:
            tighter.with_templates(upcoming.templates)  # or what is outstanding could never be promoted
    except ValueError:
        raise ProfileChanged from None
    compared = tighter if pinned.thresholds else replace(tighter, thresholds=())
    if tighter == pinned or not (compared == pinned or compared.tightens(pinned)):
        raise ProfileChanged
    store.change(lambda state: replace(state, profile=tighter))
