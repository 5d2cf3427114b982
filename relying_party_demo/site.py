"""The parts of the site, made once by the app factory and handed to the routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jinja2 import Environment

from relying_party_demo.ceremonies import Ceremonies
from relying_party_demo.database import Database
from relying_party_demo.face_phone_port import FacePhones
from relying_party_demo.phone_ceremonies import PhoneCeremonies
from relying_party_demo.phone_port import Phone
from relying_party_demo.settings import RelyingPartySettings
from relying_party_demo.visitors import Visitors


@dataclass(frozen=True, slots=True)
class Site:
    settings: RelyingPartySettings
    database: Database
    visitors: Visitors
    ceremonies: Ceremonies
    templates: Environment
    phone: Phone | None
    faces: FacePhones | None
    phone_ceremonies: PhoneCeremonies
    clock: Callable[[], float]
