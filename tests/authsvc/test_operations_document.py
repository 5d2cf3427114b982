"""docs/operations.md names every setting, command, status and problem code as the program has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import typer

from authsvc.cli import app, attestation, audit
from authsvc.errors import PROBLEMS
from authsvc.services.audit_verification import Kind
from authsvc.settings import LimitSettings, Settings
from authsvc.store.credentials import CredentialStatus
from authsvc.store.event_names import EVENTS, EventName

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def table(first_heading: str) -> list[list[str]]:
    """The cells of all rows of all tables whose first heading is this one."""
    rows: list[list[str]] = []
    inside, started = False, False
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not started:
            inside = bool(cells) and cells[0] == first_heading
        started = bool(cells)
        if cells and cells[0] != first_heading and inside and not set(line) <= set("|-"):
            rows.append(cells)
    return rows


def names(rows: list[list[str]], column: int = 0) -> list[str]:
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[column])]


def test_every_problem_code_is_told_with_its_status_and_words() -> None:
    told = {names([row], 1)[0]: (int(row[0]), row[2]) for row in table("HTTP")}
    assert told == {code: (problem.status, problem.detail) for code, problem in PROBLEMS.items()}


def test_every_setting_is_told() -> None:
    assert sorted(names(table("setting"))) == sorted(Settings.model_fields)
    assert sorted(names(table("`limits`"))) == sorted(LimitSettings.model_fields)


def test_every_state_of_a_provisioned_key_is_told() -> None:
    assert set(names(table("status"))) == set(get_args(CredentialStatus))


def test_every_command_is_told_and_no_other() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"\bauthsvc ([a-z][a-z-]+)", TEXT)) == commands


def test_every_event_is_told_in_the_same_words() -> None:
    """Somebody's alarms hang on these names."""
    assert {names([row])[0]: row[1] for row in table("event")} == dict(EVENTS)
    assert set(EVENTS) == set(get_args(EventName))


def test_every_audit_command_is_told() -> None:
    commands = set(typer.main.get_command(audit.app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"\bauthsvc audit ([a-z][a-z-]+)", TEXT)) == commands


def test_every_attestation_command_is_told() -> None:
    commands = set(typer.main.get_command(attestation.app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"\bauthsvc attestation ([a-z][a-z-]+)", TEXT)) == commands


def test_every_finding_of_a_verification_is_told() -> None:
    assert set(names(table("finding"))) == set(get_args(Kind))
