"""The attackers use the servers of the end-to-end tests and the parties of the protocol's own tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent
for _folder in ("end_to_end", "mpc"):
    if str(_TESTS / _folder) not in sys.path:
        sys.path.append(str(_TESTS / _folder))

from attacker import Attacker  # noqa: E402
from real_server import ThreadServer, thread_server  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def attacker(server: ThreadServer) -> Iterator[Attacker]:
    """A fresh enrolment with one active credential for shop.example, in the hands of an attacker."""
    with Attacker.enrolled(server) as enrolled:
        enrolled.register()
        yield enrolled
