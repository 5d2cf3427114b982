"""Says what was not run, and why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

sys.path.append(str(Path(__file__).parent / "authsvc"))

from key_tokens import softhsm_is_there

_NO_TOKEN = "softhsm2 or python-pkcs11 not installed"
_NO_NODE = "node or @simplewebauthn/server not there"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked softhsm2 need a token."""
    if not softhsm_is_there():
        for item in items:
            if item.get_closest_marker("softhsm2"):
                item.add_marker(pytest.mark.skip(reason=_NO_TOKEN))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Tests that run on both databases carry the database's name; without PostgreSQL half of them is missing."""
    run = {report.nodeid for kind in ("passed", "failed", "error") for report in terminalreporter.getreports(kind)}
    on_sqlite = sum("[sqlite" in nodeid for nodeid in run)
    if on_sqlite and not any("[postgresql" in nodeid for nodeid in run):
        terminalreporter.write_line(
            f"PostgreSQL not reachable: {on_sqlite} tests not run (TANDEM_TEST_POSTGRESQL names it)", yellow=True
        )
    without_node = sum(_NO_NODE in str(report.longrepr) for report in terminalreporter.getreports("skipped"))
    if without_node:
        terminalreporter.write_line(
            f"{_NO_NODE}: SimpleWebAuthn judged nothing (node 20, npm and the package registry)", yellow=True
        )
    left_out = sum(_NO_TOKEN in str(report.longrepr) for report in terminalreporter.getreports("skipped"))
    if left_out:
        terminalreporter.write_line(
            f"{_NO_TOKEN}: {left_out} tests not run (apt-get install softhsm2; pip install -e '.[pkcs11]')", yellow=True
        )
