"""One real server for the tests that only need one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_server import ThreadServer, thread_server

SIMPLEWEBAUTHN = "@simplewebauthn/server@14"
NO_NODE = "node or @simplewebauthn/server not there"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def node_folder(request: pytest.FixtureRequest) -> Path:
    """A folder in which Node finds SimpleWebAuthn, installed once and kept in pytest's cache."""
    if shutil.which("node") is None or shutil.which("npm") is None or request.config.cache is None:
        pytest.skip(NO_NODE)
    folder = request.config.cache.mkdir("simplewebauthn-14")
    if not (folder / "node_modules" / "@simplewebauthn" / "server").is_dir():
        quietly = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0"]
        command = ["npm", "install", *quietly, "--prefix", ".", SIMPLEWEBAUTHN]
        if subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False).returncode:
            pytest.skip(NO_NODE)
    return folder
