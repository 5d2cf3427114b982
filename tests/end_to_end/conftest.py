"""One real server for the tests that only need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_server import ThreadServer, thread_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running
