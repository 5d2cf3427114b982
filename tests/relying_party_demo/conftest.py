"""A relying party on a temporary file, and the browsers that visit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from relying_party_authenticator import SoftwareAuthenticator, SoftwareFacePhones, SoftwarePhone
from relying_party_harness import ORIGIN, Browser, Clock

from relying_party_demo import RelyingPartySettings, create_app


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def phone() -> SoftwarePhone:
    return SoftwarePhone()


@pytest.fixture
def faces() -> SoftwareFacePhones:
    return SoftwareFacePhones()


@pytest.fixture
def site(tmp_path: Path, clock: Clock, phone: SoftwarePhone, faces: SoftwareFacePhones) -> FastAPI:
    settings = RelyingPartySettings(database=tmp_path / "site.sqlite", origin=ORIGIN)
    return create_app(settings, phone, faces, clock=clock)


@pytest.fixture
def new_browser(site: FastAPI) -> Iterator[Callable[[], Browser]]:
    opened: list[Browser] = []

    def open_one() -> Browser:
        opened.append(Browser(site, base_url=ORIGIN))
        return opened[-1]

    yield open_one
    for browser in opened:
        browser.close()


@pytest.fixture
def browser(new_browser: Callable[[], Browser]) -> Browser:
    return new_browser()


@pytest.fixture
def authenticator() -> SoftwareAuthenticator:
    return SoftwareAuthenticator()
