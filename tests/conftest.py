"""Says what was not run, and why."""

from __future__ import annotations

from _pytest.terminal import TerminalReporter


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Tests that run on both databases carry the database's name; without PostgreSQL half of them is missing."""
    run = {report.nodeid for kind in ("passed", "failed", "error") for report in terminalreporter.getreports(kind)}
    on_sqlite = sum("[sqlite" in nodeid for nodeid in run)
    if on_sqlite and not any("[postgresql" in nodeid for nodeid in run):
        terminalreporter.write_line(
            f"PostgreSQL not reachable: {on_sqlite} tests not run (TANDEM_TEST_POSTGRESQL names it)", yellow=True
        )
