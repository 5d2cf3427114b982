"""Tests of provisioning use the keys of the protocol's own tests, and devices whose every byte a test decides."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from authsvc.app import create_context, prepare_database
from authsvc.services.context import ServiceContext
from authsvc.settings import Settings

_TESTS = Path(__file__).parent.parent
for _folder in ("end_to_end", "mpc", "attacks"):
    if str(_TESTS / _folder) not in sys.path:
        sys.path.append(str(_TESTS / _folder))

from authsvc_dealer import Clock  # noqa: E402


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provisioning(tmp_path: Path, clock: Clock) -> Iterator[ServiceContext]:
    """The tools of a server over its own database file, with a clock that the test sets."""
    settings = Settings(
        data_dir=tmp_path / "data", server_id="auth.example", allowed_rp_ids=["shop.example", "bank.example"]
    )
    ctx = replace(create_context(settings), clock=clock)
    prepare_database(ctx)
    yield ctx
    ctx.store.close()
