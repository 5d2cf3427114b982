"""What the simulated phone's ceremonies showed, remembered for a while so that a page can show it."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from relying_party_demo.ceremonies import Verdict
from relying_party_demo.phone_port import WhatEachPartySaw, Who

REMEMBERED_MAX = 64

Sensor = Literal["simulated", "pictures", "camera"]


@dataclass(frozen=True, slots=True)
class PhoneCeremony:
    """One finished ceremony. `phone_refusal` and `site_refusal` are sentences, None where that side agreed.

    `verdict` is there iff both agreed. Only the browser of `browser_hash` is shown it. Whose face is in a visitor's
    picture nobody here knows, so `who` is None then.
    """

    browser_hash: bytes
    kind: Literal["register", "sign in"]
    sensor: Sensor
    who: Who | None
    seen: WhatEachPartySaw
    phone_refusal: str | None
    refusal_code: str
    site_refusal: str | None
    user_name: str | None
    verdict: Verdict | None


class PhoneCeremonies:
    """The last ceremonies, in memory only: with both shares of a simulated person's template, one of a real one's."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[str, PhoneCeremony] = OrderedDict()

    def keep(self, ceremony: PhoneCeremony) -> str:
        """Returns the random name under which it is found again."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[name] = ceremony
            while len(self._kept) > REMEMBERED_MAX:
                self._kept.popitem(last=False)
        return name

    def find(self, name: str, browser_hash: bytes) -> PhoneCeremony | None:
        with self._lock:
            ceremony = self._kept.get(name)
        return ceremony if ceremony and ceremony.browser_hash == browser_hash else None
