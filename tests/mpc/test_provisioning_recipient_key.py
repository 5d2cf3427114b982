"""The recipient's private key under a passphrase: a second writer of the format, and every way of not opening.

Most files here are written by the test itself at the lowest accepted cost, so that many can be tried.
"""

from __future__ import annotations

import copy
import pickle
import unicodedata
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mpc.errors import DecodeError
from mpc.primitives import codec
from mpc.primitives.hpke import HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.recipient import new_recipient
from mpc.provisioning.recipient_key import MAX_KEY_FILE_BYTES, RecipientKey
from mpc.threshold_rsa.share_package import Role

PASSPHRASE = "correct horse battery"
SALT, NONCE = bytes(range(16)), bytes(range(12))
LOWEST_COST = 15


def fresh(suite: HpkeSuite = HpkeSuite.X25519) -> RecipientKey:
    key, recipient = new_recipient(
        role=Role.SERVER, name="auth", server_id="auth.example", enrolment_id=None, suite=suite, now=1_795_000_000
    )
    return RecipientKey(recipient, key)


OWN, OTHER = fresh(), fresh()


def contents(own: RecipientKey = OWN, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {"suite": own.key.suite.value, "key": own.key.raw, "recipient": own.recipient.document}
    return {name: value for name, value in (values | changes).items() if value is not None}


def written(
    plaintext: bytes | None = None, *, cost: int = LOWEST_COST, version: int = 1, passphrase: bytes = b""
) -> bytes:
    """A file by the table of the format, with scrypt and AES-GCM straight from the library."""
    head = b"TRKY" + bytes([version, cost]) + SALT + NONCE
    secret = passphrase or PASSPHRASE.encode()
    key = Scrypt(salt=SALT, length=32, n=1 << cost, r=8, p=1).derive(secret)
    return head + AESGCM(key).encrypt(NONCE, codec.encode(contents()) if plaintext is None else plaintext, head)


def refusal(data: bytes, passphrase: str = PASSPHRASE) -> str:
    with pytest.raises(DecodeError) as caught:
        RecipientKey.unprotect(data, passphrase)
    error: BaseException | None = caught.value
    while error is not None:  # neither the text nor what led to it repeats a secret
        assert passphrase not in f"{error}{error!r}{error.args}{getattr(error, 'object', '')}" or not passphrase
        assert OWN.key.raw.hex() not in f"{error}{error.args}"
        error = error.__context__
    return str(caught.value)


# --- round trip ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(HpkeSuite))
def test_a_protected_key_comes_back_with_its_recipient(suite: HpkeSuite) -> None:
    own = fresh(suite)

    data = own.protect(SystemRng(), PASSPHRASE)
    again = RecipientKey.unprotect(data, PASSPHRASE)

    assert again == own and again.key.raw == own.key.raw and again.recipient.document == own.recipient.document
    assert own.key.raw not in data and own.key.raw[-16:] not in data and own.recipient.document not in data
    assert len(data) < MAX_KEY_FILE_BYTES


def test_a_file_of_the_second_writer_is_read_and_the_reverse() -> None:
    assert RecipientKey.unprotect(written(), PASSPHRASE) == OWN

    data = OWN.protect(SystemRng(), PASSPHRASE)
    key = Scrypt(salt=data[6:22], length=32, n=1 << data[5], r=8, p=1).derive(PASSPHRASE.encode())
    opened = AESGCM(key).decrypt(data[22:34], data[34:], data[:34])

    assert data[:5] == b"TRKY\x01" and opened == codec.encode(contents())


def test_the_cost_is_what_a_file_on_an_exchange_medium_needs() -> None:
    """2^17 with r = 8 is 128 MiB a guess, the least that OWASP's cheat sheet asks of scrypt."""
    data = OWN.protect(SystemRng(), PASSPHRASE)

    assert data[5] == 17


def test_two_files_of_one_key_share_neither_salt_nor_nonce() -> None:
    one, two = (OWN.protect(SystemRng(), PASSPHRASE) for _ in range(2))

    assert one[6:22] != two[6:22] and one[22:34] != two[22:34]


# --- passphrases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    ["", "correct horse battery ", " correct horse battery", "Correct horse battery", "correct horse batter"],
)
def test_a_wrong_passphrase_opens_nothing(wrong: str) -> None:
    assert refusal(written(), wrong) == "recipient_key: does not open: wrong passphrase, or the file was altered"


def test_keyboards_need_not_agree_on_how_a_letter_is_composed() -> None:
    """One person types ü as one character, another keyboard sends u and a diaeresis."""
    composed = unicodedata.normalize("NFC", "Schlüssel für Köln")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed

    data = written(passphrase=unicodedata.normalize("NFKC", composed).encode())

    assert RecipientKey.unprotect(data, composed) == RecipientKey.unprotect(data, decomposed) == OWN
    assert RecipientKey.unprotect(data, composed.replace(" ", "\u00a0")) == OWN
    assert "does not open" in refusal(data, composed.replace("ü", "u"))


@pytest.mark.parametrize(
    "short",
    ["", "eleven chars"[:11], "e\u0301" * 11, "\u1100\u1161" * 11],
    ids=["empty", "eleven", "eleven accents in 22 code points", "eleven syllables in 22 code points"],
)
def test_a_short_passphrase_is_refused_however_it_is_written(short: str) -> None:
    with pytest.raises(ValueError, match="at least 12"):
        OWN.protect(SystemRng(), short)


@pytest.mark.parametrize("broken", ["\udcff" * 14, "a long passphrase \ud800"])
def test_a_passphrase_that_is_no_text_is_refused_without_being_repeated(broken: str) -> None:
    """Undecodable bytes of a terminal arrive so; an encoding error would carry the whole passphrase with it."""
    with pytest.raises(ValueError, match="UTF-8") as caught:
        OWN.protect(SystemRng(), broken)
    assert not isinstance(caught.value, UnicodeError) and caught.value.__context__ is None

    assert "does not open" in refusal(written(), broken)


# --- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [*range(7), 13, 21, 22, 27, 33, 34, 35, 90, 200, 400, -17, -16, -8, -1])
def test_a_change_anywhere_is_noticed(at: int) -> None:
    data = bytearray(written())
    data[at] ^= 0x01

    text = refusal(bytes(data))

    assert ("does not open" in text) == (at not in range(6))


def test_each_byte_of_the_head_is_authenticated() -> None:
    """The cost too: else a file could be made to take another cost than its maker chose."""
    data = written(cost=16)

    lowered = data[:5] + bytes([15]) + data[6:]

    assert "does not open" in refusal(lowered)


@pytest.mark.parametrize("length", [0, 3, 4, 5, 20, 33, 34])
def test_a_file_cut_within_its_head_is_no_key_file(length: int) -> None:
    assert refusal(written()[:length]) == "recipient_key: is not a recipient key file"


@pytest.mark.parametrize("length", [35, 49, 50, -1])
def test_a_file_cut_later_does_not_open(length: int) -> None:
    assert "does not open" in refusal(written()[:length])


@pytest.mark.parametrize(
    "data",
    [b"TSHR" + bytes(60), b"-----BEGIN OPENSSH PRIVATE KEY-----" + bytes(40), b"trky" + bytes(60)],
    ids=["a share", "an OpenSSH key", "lower case"],
)
def test_another_file_is_told_as_such(data: bytes) -> None:
    assert refusal(data) == "recipient_key: is not a recipient key file"


def test_a_file_larger_than_any_is_not_hashed() -> None:
    assert refusal(written() + bytes(MAX_KEY_FILE_BYTES)) == "recipient_key: is not a recipient key file"


@pytest.mark.parametrize("version", [0, 2, 255])
def test_an_unknown_version_is_told_as_such(version: int) -> None:
    assert "version" in refusal(written(version=version))


@pytest.mark.parametrize("cost", [0, 1, 14, 19, 31, 63, 255])
def test_a_cost_out_of_range_is_refused_before_it_is_paid(cost: int) -> None:
    """Above, a file could take all memory of the machine; below, guessing would be cheap."""
    data = written()

    assert "cost" in refusal(data[:5] + bytes([cost]) + data[6:])


@pytest.mark.parametrize(
    "changes",
    [
        {"key": None},
        {"suite": None},
        {"recipient": None},
        {"extra": 1},
        {"suite": "mlkem768-x25519"},
        {"suite": "x448"},
        {"key": bytes(31)},
        {"key": OTHER.key.raw},
        {"recipient": OTHER.recipient.document},
        {"recipient": OWN.recipient.document[:-20]},
        {"recipient": b"{}"},
        {"recipient": b""},
    ],
    ids=lambda changes: " ".join(f"{name} {'changed' if value else 'out'}" for name, value in changes.items()),
)
def test_a_file_that_opens_but_holds_something_else_is_refused(changes: dict[str, Any]) -> None:
    """A key beside a recipient that is not its own would re-seal nothing, and only on the day it is needed."""
    refusal(written(codec.encode(contents(**changes))))


def test_bytes_that_open_but_are_no_record_are_refused() -> None:
    for plaintext in (b"", b"\xff", codec.encode(contents()) + b"\x00"):
        refusal(written(plaintext))


# --- the pair --------------------------------------------------------------------------------------------------


def test_a_key_that_is_not_the_recipients_is_refused() -> None:
    with pytest.raises(ValueError, match="not this recipient's"):
        RecipientKey(OWN.recipient, OTHER.key)


def test_the_pair_is_neither_shown_nor_pickled_nor_copied() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            attempt(OWN)
    shown = repr(OWN) + str(OWN)
    assert OWN.key.raw.hex()[:12] not in shown and repr(OWN.key.raw)[2:14] not in shown
