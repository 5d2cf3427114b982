"""Users and their passkeys, as the site keeps them."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from relying_party_demo.errors import (
    InvalidName,
    LastPasskey,
    NameTaken,
    NotFound,
    RegistrationRefused,
    TooManyPasskeys,
)

PASSKEYS_PER_USER_MAX = 20
_NAME = re.compile(r"[a-z0-9._@+-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class User:
    id: int
    handle: bytes
    name: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Passkey:
    """A stored credential. `algorithm` is the COSE number, times are Unix seconds."""

    id: bytes
    user_id: int
    public_key: bytes
    algorithm: int
    attestation: str
    sign_count: int
    created_at: float
    last_used_at: float | None
    counter_refused_at: float | None


def normalised_name(text: object) -> str:
    """The account name in the form it is stored: lower case, ASCII. Raises InvalidName."""
    name = text.strip().lower() if isinstance(text, str) else ""
    if not _NAME.fullmatch(name):
        raise InvalidName()
    return name


def checked_display_name(text: object) -> str:
    """The name to show, as given but for spaces at its ends. Raises InvalidName."""
    display_name = text.strip() if isinstance(text, str) else ""
    if not 1 <= len(display_name) <= 64 or not display_name.isprintable():
        raise InvalidName()
    return display_name


def user_by_name(transaction: sqlite3.Connection, name: str) -> User | None:
    return _user(transaction.execute(_USER + "WHERE name = ?", (name,)).fetchone())


def user_by_id(transaction: sqlite3.Connection, user_id: int) -> User | None:
    return _user(transaction.execute(_USER + "WHERE id = ?", (user_id,)).fetchone())


def add_user(transaction: sqlite3.Connection, *, handle: bytes, name: str, display_name: str, now: float) -> User:
    """Raises NameTaken."""
    try:
        row = transaction.execute(
            "INSERT INTO users (handle, name, display_name, created_at) VALUES (?, ?, ?, ?) "
            "RETURNING id, handle, name, display_name",
            (handle, name, display_name, now),
        ).fetchone()
    except sqlite3.IntegrityError as error:
        raise NameTaken() from error
    return User(*row)


def passkeys_of(transaction: sqlite3.Connection, user: User) -> list[Passkey]:
    """The passkeys of a user, oldest first."""
    rows = transaction.execute(_PASSKEY + "WHERE user_id = ? ORDER BY created_at, rowid", (user.id,))
    return [Passkey(*row) for row in rows]


def passkey_by_id(transaction: sqlite3.Connection, credential_id: bytes) -> Passkey | None:
    row = transaction.execute(_PASSKEY + "WHERE id = ?", (credential_id,)).fetchone()
    return None if row is None else Passkey(*row)


def add_passkey(
    transaction: sqlite3.Connection,
    user: User,
    *,
    credential_id: bytes,
    public_key: bytes,
    algorithm: int,
    attestation: str,
    sign_count: int,
    now: float,
) -> None:
    """Raises TooManyPasskeys, or RegistrationRefused if any account has a passkey of this id."""
    if len(passkeys_of(transaction, user)) >= PASSKEYS_PER_USER_MAX:
        raise TooManyPasskeys()
    try:
        transaction.execute(
            "INSERT INTO credentials VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (credential_id, user.id, public_key, algorithm, attestation, sign_count, now),
        )
    except sqlite3.IntegrityError as error:
        raise RegistrationRefused("A passkey with this id is registered already.") from error


def count_up(transaction: sqlite3.Connection, credential_id: bytes, *, sign_count: int, now: float) -> bool:
    """Store the counter of a verified assertion; False, and a note on the passkey, if it did not go up.

    Authenticators without a counter always send 0; WebAuthn (section 6.1.1) lets 0 follow 0 only.
    """
    moved = transaction.execute(
        "UPDATE credentials SET sign_count = ?1, last_used_at = ?2 "
        "WHERE id = ?3 AND (sign_count < ?1 OR (sign_count = 0 AND ?1 = 0))",
        (sign_count, now, credential_id),
    ).rowcount
    if not moved:
        transaction.execute("UPDATE credentials SET counter_refused_at = ? WHERE id = ?", (now, credential_id))
    return moved == 1


def remove_passkey(transaction: sqlite3.Connection, user: User, credential_id: bytes) -> None:
    """Forget a passkey and the sessions it opened. Raises NotFound, or LastPasskey."""
    mine = {passkey.id for passkey in passkeys_of(transaction, user)}
    if credential_id not in mine:
        raise NotFound("This account has no such passkey.")
    if len(mine) == 1:
        raise LastPasskey()
    transaction.execute("DELETE FROM credentials WHERE id = ?", (credential_id,))


_USER = "SELECT id, handle, name, display_name FROM users "
_PASSKEY = (
    "SELECT id, user_id, public_key, algorithm, attestation, sign_count, created_at, last_used_at, "
    "counter_refused_at FROM credentials "
)


def _user(row: sqlite3.Row | None) -> User | None:
    return None if row is None else User(*row)
