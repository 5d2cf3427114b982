"""Challenges: given to one browser for one purpose, and taken once."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from enum import StrEnum

CHALLENGE_BYTES = 32
OPEN_PER_BROWSER_MAX = 16


class Purpose(StrEnum):
    """What a challenge was given for; an answer for another purpose does not take it."""

    REGISTER = "register"
    ADD_PASSKEY = "add passkey"
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What was noted when the challenge was given: whose passkey is to be made, or who wants to log in.

    At a login `name` is None if no account was named; the name may be of no account.
    """

    challenge: bytes
    handle: bytes | None = None
    name: str | None = None
    display_name: str | None = None


def give_challenge(
    transaction: sqlite3.Connection,
    *,
    browser_hash: bytes,
    purpose: Purpose,
    now: float,
    lifetime_s: float,
    handle: bytes | None = None,
    name: str | None = None,
    display_name: str | None = None,
) -> bytes:
    """Note and return a fresh random challenge. Expired ones go, as do a browser's oldest beyond a limit."""
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    transaction.execute("DELETE FROM challenges WHERE expires_at <= ?", (now,))
    transaction.execute(
        "INSERT INTO challenges VALUES (?, ?, ?, ?, ?, ?, ?)",
        (challenge, browser_hash, purpose.value, handle, name, display_name, now + lifetime_s),
    )
    transaction.execute(
        "DELETE FROM challenges WHERE browser_hash = ?1 AND rowid NOT IN "
        "(SELECT rowid FROM challenges WHERE browser_hash = ?1 ORDER BY rowid DESC LIMIT ?2)",
        (browser_hash, OPEN_PER_BROWSER_MAX),
    )
    return challenge


def take_challenge(
    transaction: sqlite3.Connection, challenge: bytes, *, browser_hash: bytes, purpose: Purpose, now: float
) -> Expectation | None:
    """Remove the challenge and return what was noted with it; None if it is not open here.

    One DELETE both finds and removes it, so of two simultaneous answers one gets it. An answer from another
    browser, or for another purpose, neither gets it nor uses it up.
    """
    row = transaction.execute(
        "DELETE FROM challenges WHERE challenge = ? AND browser_hash = ? AND purpose = ? AND expires_at > ? "
        "RETURNING challenge, handle, name, display_name",
        (challenge, browser_hash, purpose.value, now),
    ).fetchone()
    return None if row is None else Expectation(*row)
