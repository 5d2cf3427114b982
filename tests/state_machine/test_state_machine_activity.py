"""The figures of the console after real logins, and a session, on each database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from state_machine_harness import STRANGER, Phone, Server

from authsvc.services import activity, api_tokens, console_sessions
from authsvc.tokens import Scope
from device_sdk.errors import TandemError


def test_what_the_overview_counts_is_what_happened(phone: Phone, server: Server) -> None:
    """A database that rounds where another cuts would put attempts into the wrong hour."""
    hour = activity.HOUR_S
    server.clock.now = (server.clock.now // hour + 5) * hour - 1
    phone.get()
    assert phone.confirm()
    server.clock.advance(1)
    with pytest.raises(TandemError):
        phone.get(STRANGER)

    figures = activity.activity(server.ctx, activity.DAY)

    assert list(figures.confirmed)[-2:] == [1, 0]
    assert list(figures.unconfirmed)[-2:] == [0, 1]
    assert figures.by_status == {"active": 1} and figures.quarantined == [0] * 24
    assert len(activity.latest_attempts(server.ctx, phone.id, 2)) == 2
    server.clock.advance(30 * hour)
    # With the registration of the fixture, which is a login too.
    assert activity.activity(server.ctx, activity.DAY).confirmed_before == 2


def test_a_console_session_is_kept_and_ended(server: Server) -> None:
    issued = api_tokens.issue_token(server.ctx, name="Ada", scopes=[Scope.AUDITOR], lifetime_days=1)
    cookie = console_sessions.sign_in(server.ctx, issued.text)
    session = console_sessions.current_session(server.ctx, cookie)
    assert session is not None and session.principal.token_id == issued.id

    later = replace(server.ctx, clock=lambda: server.clock.now + console_sessions.IDLE_S - 1)
    assert console_sessions.current_session(later, cookie) is not None
    server.clock.advance(console_sessions.IDLE_S + 1)
    assert console_sessions.current_session(server.ctx, cookie) is not None, "its use put the end off"

    console_sessions.sign_out(server.ctx, session)
    assert console_sessions.current_session(server.ctx, cookie) is None
