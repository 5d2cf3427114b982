"""The options that several commands share, and how their text becomes values."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keys.ceremony.ceremony_key import read_ceremony_key
from keys.ceremony.comparison import Comparison, Expectation
from keys.ceremony.record import Attendance
from keys.terminal import read_text_passphrase
from mpc.errors import DecodeError
from mpc.provisioning.manifest import MAX_KEYS
from mpc.provisioning.recipient import MAX_NAME_BYTES, name_field
from mpc.provisioning.signed_document import normal_fingerprint
from mpc.provisioning.times import from_text

MAX_COUNT = MAX_KEYS
_MAX_DAYS = 36_500
_DAY_S = 86_400
_MAX_PEOPLE = 100
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_RP_ID = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)

Server = Annotated[Path, typer.Option("--server", help="The auth server's recipient file.")]
Devices = Annotated[Path, typer.Option("--device", help="A device's recipient file, or a folder of them (*.json).")]
RpId = Annotated[str, typer.Option("--rp-id", help="The relying party's domain, such as example.com.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to make; it must not exist.")]
Operators = Annotated[
    list[str] | None, typer.Option("--operator", metavar="NAME", help="Who runs the ceremony; repeat.")
]
Witnesses = Annotated[list[str] | None, typer.Option("--witness", metavar="NAME", help="Who watches it; repeat.")]
NotAfter = Annotated[
    str | None, typer.Option("--not-after", metavar="TIME", help="The keys' end, as 2027-11-20T16:00:00Z.")
]
ValidDays = Annotated[int | None, typer.Option(help="The keys' end, in days from now.", min=1, max=_MAX_DAYS)]
CeremonyKey = Annotated[
    Path | None, typer.Option("--ceremony-key", metavar="FILE", help="Sign with this key instead of a fresh one.")
]
CeremonyPassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The ceremony key's passphrase, instead of a prompt.")
]
PassphraseFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The key's passphrase, instead of a prompt.")]
Expect = Annotated[
    list[str] | None,
    typer.Option(
        "--expect",
        metavar="[STEM=]FINGERPRINT",
        help="A fingerprint that a holder read out, of the file STEM.json; repeat, all or none.",
    ),
]
NotCompared = Annotated[
    bool, typer.Option("--not-compared", help="Go on although nobody compared fingerprints; the manifest says so.")
]
CeremonyKeyFingerprint = Annotated[
    str | None,
    typer.Option(metavar="FINGERPRINT", help="Of the key that signed the manifest, as the witnesses wrote it down."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON.")]


def rp_id_value(text: str) -> str:
    """A lower-case domain name. Raises a usage error."""
    if len(text) > 253 or not _RP_ID.fullmatch(text):
        raise typer.BadParameter("a relying party's id is a lower-case domain name, without scheme and port")
    return text


def end_of_validity(not_after: str | None, valid_days: int | None, now: int) -> int | None:
    """Unix seconds, or None. Raises a usage error."""
    if not_after is not None and valid_days is not None:
        raise typer.BadParameter("give --not-after or --valid-days, not both")
    if valid_days is not None:
        return now + valid_days * _DAY_S
    if not_after is None:
        return None
    try:
        end = from_text(not_after)
    except ValueError as error:
        raise typer.BadParameter(f"--not-after: {error}") from None
    if end <= now:
        raise typer.BadParameter("--not-after: this time is past; check the clock of this machine too")
    return end


def fingerprint_value(text: str | None) -> str | None:
    """A fingerprint in its normal form. Raises a usage error."""
    try:
        return None if text is None else normal_fingerprint(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def comparison(expect: list[str] | None, not_compared: bool) -> Comparison:
    """How recipients are to be compared. Raises a usage error."""
    if expect and not_compared:
        raise typer.BadParameter("give --expect or --not-compared, not both")
    try:
        return Comparison(frozenset(_expectation(text) for text in expect or ()), waived=not_compared)
    except ValueError as error:
        raise typer.BadParameter(f"--expect: {error}") from None


def _expectation(text: str) -> Expectation:
    stem, named, fingerprint = text.rpartition("=")
    return Expectation(normal_fingerprint(fingerprint), stem if named else None)


def attendance(
    operators: list[str] | None, witnesses: list[str] | None, key_file: Path | None, passphrase_file: Path | None
) -> Attendance:
    """Who is there, from now on. Raises a usage error for a name, Refusal for the ceremony's key."""
    return Attendance(
        operators=_names(operators, "--operator"),
        witnesses=_names(witnesses, "--witness"),
        started_at=int(time.time()),
        signing_key=_signing_key(key_file, passphrase_file),
    )


def _signing_key(key_file: Path | None, passphrase_file: Path | None) -> Ed25519PrivateKey:
    if key_file is None:
        return Ed25519PrivateKey.generate()
    return read_ceremony_key(key_file, read_text_passphrase(passphrase_file, str(key_file)))


def _names(texts: list[str] | None, option: str) -> tuple[str, ...]:
    names = tuple(texts or ())
    try:
        if len(names) > _MAX_PEOPLE or not all(
            0 < len(name_field(name).encode("utf-8")) <= MAX_NAME_BYTES for name in names
        ):
            raise typer.BadParameter(
                f"{option}: a name has 1 to {MAX_NAME_BYTES} bytes, and there are at most {_MAX_PEOPLE}"
            )
    except (DecodeError, UnicodeEncodeError):
        raise typer.BadParameter(f"{option}: a name is printable text without spaces at its ends") from None
    return names
