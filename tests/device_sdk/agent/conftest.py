"""One server and one enrolled device for the tests of the agent, with passkeys of ann and bob."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agent_harness import SITE
from agent_options import creation_options
from people import Person, enrolled_device
from real_server import ThreadServer, thread_server

from device_sdk import Device


@pytest.fixture(scope="session")
def agent_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def device(agent_server: ThreadServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    person = Person(1)
    with enrolled_device(agent_server, tmp_path_factory.mktemp("vault"), person) as enrolled:
        for name in ("ann", "bob"):
            enrolled.create(creation_options(name), SITE, person.capture)
        yield enrolled
