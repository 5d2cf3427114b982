"""The arithmetic and the formats of escrow: any k lists give the key, and nothing else does."""

from __future__ import annotations

import json
import pickle
import secrets
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import combine_mnemonics
from shamir_mnemonic.wordlist import WORDLIST

from keys.escrow.sheets import read_sheet, sheet, sheet_name, word_table
from keys.escrow.word_lists import EscrowRecord, WordList, custodians_of, known_word, recover_key, split_key
from keys.refusal import Refusal

NAMES = ("Ann", "Bob", "Chloé", "Dai", "Eve")
KEY = secrets.token_bytes(32)
RECORD, LISTS = split_key(KEY, threshold=3, custodians=NAMES, now=1_763_650_000)
OTHER_RECORD, OTHER_LISTS = split_key(secrets.token_bytes(32), threshold=3, custodians=NAMES, now=1_763_650_000)


def reason_of(refusal: pytest.ExceptionInfo[Refusal], *lists: WordList) -> str:
    """The reason; the error shows no word and no cause that could."""
    error = refusal.value
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    # Words with their numbers or beside each other would be some; sentences may contain single ones such as "window".
    secret_words = {word for word_list in (*LISTS, *lists) for word in word_list.words}
    shown = str(error).lower().replace(":", " ").split()
    assert sum(word in secret_words for word in shown) <= 1, shown
    return error.reason


def refused(record: EscrowRecord, lists: list[WordList]) -> str:
    with pytest.raises(Refusal) as caught:
        recover_key(record, lists)
    return reason_of(caught)


@pytest.mark.parametrize("chosen", list(combinations(range(5), 3)))
def test_every_three_of_five_give_the_key(chosen: tuple[int, ...]) -> None:
    lists = [LISTS[at] for at in reversed(chosen)]
    assert recover_key(RECORD, lists) == KEY
    assert custodians_of(RECORD, lists) == [NAMES[at] for at in reversed(chosen)]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 16).flatmap(lambda k: st.tuples(st.just(k), st.integers(k, 16))), st.binary(min_size=32, max_size=32)
)
def test_any_threshold_and_number_work(sizes: tuple[int, int], key: bytes) -> None:
    threshold, count = sizes
    record, lists = split_key(key, threshold=threshold, custodians=[f"c{at}" for at in range(count)], now=0)

    assert recover_key(record, lists[-threshold:]) == key
    with pytest.raises(Refusal) as caught:
        recover_key(record, lists[: threshold - 1])
    assert caught.value.reason == "too_few"


def test_the_lists_are_slip_39_that_other_software_reads() -> None:
    """The custodians must not depend on this program still existing."""
    mnemonics = [" ".join(LISTS[at].words) for at in (4, 0, 2)]
    assert combine_mnemonics(mnemonics) == KEY


def test_two_escrows_of_one_key_have_nothing_in_common() -> None:
    record, lists = split_key(KEY, threshold=3, custodians=NAMES, now=0)
    assert record.check == RECORD.check
    assert not {tuple(word_list.words[5:]) for word_list in lists} & {tuple(word_list.words[5:]) for word_list in LISTS}


def test_too_few_lists_are_refused() -> None:
    assert refused(RECORD, []) == refused(RECORD, list(LISTS[:2])) == "too_few"


def test_the_same_list_twice_is_refused() -> None:
    assert refused(RECORD, [LISTS[0], LISTS[1], LISTS[0]]) == "repeated_list"


def test_a_list_of_another_escrow_is_refused() -> None:
    assert refused(RECORD, [LISTS[0], LISTS[1], OTHER_LISTS[2]]) == "other_set"
    assert refused(RECORD, list(OTHER_LISTS)) == "other_set"
    assert refused(OTHER_RECORD, list(LISTS)) == "other_set"


def test_an_altered_list_with_a_right_checksum_is_refused_even_as_one_too_many() -> None:
    """A custodian who hands in something else than his list is found out."""
    share = LISTS[2].share
    wrong = WordList.read("list", type(share)(**{**vars(share), "value": bytes(32)}).words())

    assert refused(RECORD, [LISTS[0], LISTS[1], wrong]) == "wrong_words"
    assert refused(RECORD, [LISTS[0], LISTS[1], LISTS[3], wrong]) == "wrong_words"


def test_lists_that_give_another_key_than_the_records_are_refused() -> None:
    """The record is of an older key, say: then the lists fit each other, but not what is wanted."""
    values = json.loads(RECORD.encode()) | {"key_check": OTHER_RECORD.check.hex()}
    assert refused(EscrowRecord.decode(json.dumps(values).encode()), list(LISTS[:3])) == "other_key"


@pytest.mark.parametrize("position", [0, 4, 5, 20, 32])
def test_a_wrong_word_is_found(position: int) -> None:
    words = LISTS[0].words
    words[position] = WORDLIST[(WORDLIST.index(words[position]) + 1) % 1024]
    with pytest.raises(Refusal) as caught:
        WordList.read("list 2", words)
    assert reason_of(caught) == "wrong_words" and str(caught.value).startswith("list 2:")


def test_two_exchanged_words_are_found() -> None:
    words = LISTS[0].words
    at = next(at for at in range(5, 31) if words[at] != words[at + 1])
    words[at], words[at + 1] = words[at + 1], words[at]
    with pytest.raises(Refusal) as caught:
        WordList.read("list", words)
    assert reason_of(caught) == "wrong_words"


def test_a_word_outside_of_the_list_is_named_by_its_position_only() -> None:
    """What was typed may be a secret word with a slip of the finger."""
    words = LISTS[0].words
    words[6] += "x"
    with pytest.raises(Refusal) as caught:
        WordList.read("list 1", words)
    assert reason_of(caught) == "unknown_word"
    assert str(caught.value) == "list 1: word 7 is not in the word list"


@pytest.mark.parametrize("count", [0, 1, 20, 32, 34])
def test_a_list_of_another_length_is_refused(count: int) -> None:
    with pytest.raises(Refusal) as caught:
        WordList.read("list", (LISTS[0].words * 2)[:count])
    assert reason_of(caught) == "wrong_length"


def test_four_letters_and_capitals_are_enough() -> None:
    assert WordList.read("list", [word[:4].upper() for word in LISTS[0].words]).words == LISTS[0].words
    assert all(known_word(word) == word == known_word(word[:4]) for word in WORDLIST)
    assert known_word("") is known_word("aca") is known_word("academicx") is known_word("acadx") is None


@pytest.mark.parametrize(
    ("threshold", "names", "reason"),
    [
        (1, ("a", "b"), "bad_threshold"),
        (17, tuple(map(str, range(17))), "bad_threshold"),
        (3, ("a", "b"), "bad_custodians"),
        (2, tuple(map(str, range(17))), "bad_custodians"),
        (2, ("Ann", "ann"), "bad_custodians"),
        (2, ("Ann", ""), "bad_custodians"),
        (2, ("Ann", " Bob"), "bad_custodians"),
        (2, ("Ann", "Bob\x1b[2J"), "bad_custodians"),
        (2, ("Ann", "x" * 101), "bad_custodians"),
    ],
)
def test_impossible_escrows_are_refused(threshold: int, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        split_key(KEY, threshold=threshold, custodians=names, now=0)
    assert caught.value.reason == reason


def test_a_key_of_another_length_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split_key(KEY[:31], threshold=2, custodians=NAMES, now=0)


def test_the_record_comes_back_and_holds_no_secret() -> None:
    encoded = RECORD.encode()
    assert EscrowRecord.decode(encoded) == RECORD
    assert KEY.hex() not in encoded.decode() and str(int.from_bytes(KEY, "big")) not in encoded.decode()
    # Nothing but the check depends on the key, and it is a hash under its own label.
    assert set(json.loads(encoded)) == {
        "format", "threshold", "custodians", "identifier", "key_check", "created_at"
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"format": "tandem escrow record v2"},
        {"threshold": 1},
        {"threshold": 6},
        {"threshold": True},
        {"custodians": ["Ann", "Ann", "Bob"]},
        {"custodians": "Ann"},
        {"identifier": 2**15},
        {"identifier": -1},
        {"key_check": "00" * 31},
        {"key_check": "zz" * 32},
        {"created_at": "yesterday"},
        {"more": 1},
    ],
)
def test_a_record_with_a_bad_value_is_refused(change: dict[str, object]) -> None:
    values = json.loads(RECORD.encode()) | change
    with pytest.raises(Refusal) as caught:
        EscrowRecord.decode(json.dumps(values).encode())
    assert caught.value.reason == "bad_record"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, RECORD.encode()[:-3]])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        EscrowRecord.decode(data)
    assert caught.value.reason == "bad_record"


def test_a_list_is_never_shown_or_pickled() -> None:
    assert repr(LISTS[0]) == "WordList(label='the list of Ann')"
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(LISTS[0])


def test_a_sheet_comes_back() -> None:
    for position, word_list in enumerate(LISTS):
        text = sheet(RECORD, position, word_list.words)
        assert NAMES[position] in text and max(map(len, text.splitlines())) <= 80
        assert read_sheet("sheet", text.encode()).words == word_list.words
        assert read_sheet("sheet", text.replace("\n", "\r\n").encode()).words == word_list.words


def test_a_file_with_the_words_alone_is_read_as_well() -> None:
    assert read_sheet("file", "\n".join(LISTS[0].words).encode()).words == LISTS[0].words


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (" 7 ", " 8 ", "bad_sheet"),
        (" 7 ", " x ", "bad_sheet"),
        (" 7 ", " ", "bad_sheet"),
        ("----- end", "extra ----- end", "bad_sheet"),
        (" 7 ", " 077 ", "bad_sheet"),
        ("----- words -----", "", "wrong_length"),
    ],
)
def test_a_damaged_sheet_is_refused(old: str, new: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_sheet("sheet", word_table(LISTS[0].words).replace(old, new, 1).encode())
    assert reason_of(caught) == reason


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Refusal) as caught:
        read_sheet("sheet", b"\xff\xfe")
    assert reason_of(caught) == "bad_sheet"


def test_sheets_have_names_of_their_own() -> None:
    record = EscrowRecord(2, ("Ann/../x", "日本"), 0, bytes(32), 0)
    assert [sheet_name(record, at) for at in (0, 1)] == ["01-ann-x.txt", "02-custodian.txt"]
