"""Escrow of the auth server's key-encryption key: word lists for n custodians, any k of which give the key back.

The lists are SLIP-39 mnemonics: one group, no passphrase, the extendable flag set, iteration exponent 0. Other SLIP-39
software can therefore recover the key as well. Fewer than k lists say nothing about it (Shamir, How to share a secret,
CACM 1979). The record beside them holds nothing secret: it tells whether lists are the right ones and give the right
key.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.wordlist import WORDLIST

from keys.refusal import Refusal
from mpc.errors import DecodeError
from mpc.primitives.codec import Fields
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.secrecy import NeverPickled
from mpc.provisioning.recipient import MAX_NAME_BYTES, name_field
from mpc.provisioning.times import time_field, to_text

ESCROWED_KEY_BYTES = 32
WORDS_IN_LIST = 33
MIN_THRESHOLD, MAX_CUSTODIANS = 2, 16
MAX_RECORD_BYTES = 16 * 1024
_RECORD_FORMAT = "tandem escrow record v1"
_CHECK_LABEL = "tandem escrow check v1"
_CHECK_BYTES = 32
_MAX_IDENTIFIER = 2**15 - 1
# The passphrase is empty, so stretching it would protect nothing.
_ITERATION_EXPONENT = 0
_DISTINCT_LETTERS = 4
_BY_FIRST_LETTERS = {word[:_DISTINCT_LETTERS]: word for word in WORDLIST}


@dataclass(frozen=True, slots=True)
class EscrowRecord:
    """What is kept in the open about an escrow. identifier: what all its lists begin with. created_at: Unix seconds.

    check: a hash of the key. The key has 256 random bits, so the hash lets nobody find it by trying.
    """

    threshold: int
    custodians: tuple[str, ...]
    identifier: int
    check: bytes
    created_at: int

    def encode(self) -> bytes:
        """The record's file, JSON."""
        values = {
            "format": _RECORD_FORMAT,
            "threshold": self.threshold,
            "custodians": list(self.custodians),
            "identifier": self.identifier,
            "key_check": self.check.hex(),
            "created_at": to_text(self.created_at),
        }
        return json.dumps(values, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> EscrowRecord:
        """Raises Refusal("bad_record")."""
        try:
            return cls._read(Fields(json.loads(data.decode("utf-8")), "escrow_record"))
        except (DecodeError, Refusal) as error:
            raise Refusal("bad_record", f"this is not an escrow record as it was written: {error}") from None
        except (ValueError, RecursionError):
            raise Refusal("bad_record", "this is not an escrow record") from None

    @classmethod
    def _read(cls, fields: Fields) -> EscrowRecord:
        fields.text("format", at_most=80, one_of=(_RECORD_FORMAT,))
        names = fields.texts("custodians", at_most=MAX_CUSTODIANS, length_at_most=MAX_NAME_BYTES)
        threshold = fields.uint("threshold", at_most=MAX_CUSTODIANS)
        check = fields.text("key_check", at_most=2 * _CHECK_BYTES)
        if len(check) != 2 * _CHECK_BYTES or set(check) - set("0123456789abcdef"):
            raise DecodeError("key_check", f"must be {2 * _CHECK_BYTES} hexadecimal digits")
        record = cls(
            threshold=threshold,
            custodians=checked_custodians(names, threshold),
            identifier=fields.uint("identifier", at_most=_MAX_IDENTIFIER),
            check=bytes.fromhex(check),
            created_at=time_field(fields, "created_at"),
        )
        fields.done()
        return record


@dataclass(frozen=True, slots=True)
class WordList(NeverPickled):
    """One custodian's list; its checksum is right. `label` says in errors which list is meant."""

    label: str
    share: Any = field(repr=False)

    @property
    def words(self) -> list[str]:
        return list(self.share.words())

    @classmethod
    def read(cls, label: str, words: Sequence[str]) -> WordList:
        """Words as typed: case does not matter, and the first four letters are enough.

        Raises Refusal: "unknown_word" with the position of the first, "wrong_length", "wrong_words" (the checksum).
        """
        known = [known_word(word) for word in words]
        if None in known:
            raise Refusal("unknown_word", f"{label}: word {known.index(None) + 1} is not in the word list")
        if len(known) != WORDS_IN_LIST:
            raise Refusal("wrong_length", f"{label}: has {len(known)} words instead of {WORDS_IN_LIST}")
        try:
            share = Share.from_mnemonic(" ".join(word for word in known if word))
        except MnemonicError:  # its text quotes words
            raise Refusal(
                "wrong_words", f"{label}: a word is wrong, or two have changed places; compare it with the sheet"
            ) from None
        return cls(label, share)


def known_word(typed: str) -> str | None:
    """The word of the list that was meant, or None. SLIP-39: the first four letters tell all words apart."""
    typed = typed.lower()
    word = _BY_FIRST_LETTERS.get(typed[:_DISTINCT_LETTERS])
    return word if word is not None and word.startswith(typed) else None


def checked_custodians(names: Sequence[str], threshold: int) -> tuple[str, ...]:
    """The names. Raises Refusal: "bad_threshold", "bad_custodians"."""
    if not MIN_THRESHOLD <= threshold <= MAX_CUSTODIANS:
        raise Refusal("bad_threshold", f"the threshold must be from {MIN_THRESHOLD} to {MAX_CUSTODIANS}")
    if not threshold <= len(names) <= MAX_CUSTODIANS:
        raise Refusal("bad_custodians", f"name from {threshold} (the threshold) to {MAX_CUSTODIANS} custodians")
    try:
        checked = tuple(name_field(name) for name in names)
    except DecodeError:
        raise Refusal("bad_custodians", "names must be printable text without spaces at their ends") from None
    if any(not name or len(name.encode("utf-8")) > MAX_NAME_BYTES for name in checked):
        raise Refusal("bad_custodians", f"names have from 1 to {MAX_NAME_BYTES} bytes")
    if len({name.casefold() for name in checked}) != len(checked):
        raise Refusal("bad_custodians", "two custodians have the same name; tell them apart")
    return checked


def split_key(
    key: bytes, *, threshold: int, custodians: Sequence[str], now: int
) -> tuple[EscrowRecord, tuple[WordList, ...]]:
    """The record, and a list for each custodian in their order; every list has been tried once.

    Raises Refusal: "bad_threshold", "bad_custodians"; ValueError for a key of another length.
    """
    if len(key) != ESCROWED_KEY_BYTES:
        raise ValueError(f"the key has {ESCROWED_KEY_BYTES} bytes")
    names = checked_custodians(custodians, threshold)
    (mnemonics,) = generate_mnemonics(
        1, [(threshold, len(names))], key, extendable=True, iteration_exponent=_ITERATION_EXPONENT
    )
    lists = tuple(
        WordList.read(f"the list of {name}", mnemonic.split()) for name, mnemonic in zip(names, mnemonics, strict=True)
    )
    record = EscrowRecord(threshold, names, lists[0].share.identifier, _check_value(key), now)
    # A list that does not work must be found now, not on the day when it is needed.
    recover_key(record, lists)
    return record, lists


def recover_key(record: EscrowRecord, lists: Sequence[WordList]) -> bytes:
    """The key. With more than k lists, each one is tried.

    Raises Refusal: "other_set" (a list of another escrow), "repeated_list", "too_few", "wrong_words" (the lists do not
    fit each other), "other_key" (they give another key than the record's).
    """
    _refuse_other_sets(record, lists)
    if len(lists) < record.threshold:
        raise Refusal("too_few", f"{len(lists)} lists are not enough: {record.threshold} are needed")
    keys = [_combined([word_list.share.mnemonic() for word_list in chosen]) for chosen in _trials(record, lists)]
    for key in keys:
        if not hmac.compare_digest(_check_value(key), record.check):
            raise Refusal("other_key", "these lists give another key than the one of this record")
    return keys[0]


def custodians_of(record: EscrowRecord, lists: Sequence[WordList]) -> list[str]:
    """Whose lists these are, for lists that `recover_key` took."""
    return [record.custodians[word_list.share.index] for word_list in lists]


def _refuse_other_sets(record: EscrowRecord, lists: Sequence[WordList]) -> None:
    expected = (record.identifier, True, _ITERATION_EXPONENT, 0, 1, 1, record.threshold)
    seen: dict[int, str] = {}
    for word_list in lists:
        share = word_list.share
        if tuple(share.group_parameters()) != expected or share.index >= len(record.custodians):
            raise Refusal("other_set", f"{word_list.label}: belongs to another escrow than this record")
        if share.index in seen:
            raise Refusal("repeated_list", f"{word_list.label}: is the same custodian's as {seen[share.index]}")
        seen[share.index] = word_list.label


def _trials(record: EscrowRecord, lists: Sequence[WordList]) -> Iterator[Sequence[WordList]]:
    """Choices of k lists, in which each list occurs."""
    yield lists[: record.threshold]
    for further in lists[record.threshold :]:
        yield [*lists[: record.threshold - 1], further]


def _combined(mnemonics: list[str]) -> bytes:
    try:
        key: bytes = combine_mnemonics(mnemonics)
    except MnemonicError:  # its text quotes words
        raise Refusal(
            "wrong_words", "the lists do not fit each other: one is not of this escrow, or was altered"
        ) from None
    return key


def _check_value(key: bytes) -> bytes:
    return tagged_hash(_CHECK_LABEL, key)
