"""Every fault of the SDK tells a program what to do and a person what happened."""

from __future__ import annotations

import inspect
import re

import pytest

from device_sdk import errors
from device_sdk.errors import (
    Advice,
    HistoryAltered,
    InvalidOptions,
    LockedOut,
    ProvisionedKeyRefused,
    ServerMisbehaved,
    ServerRefused,
    ShareRefused,
    TandemError,
    WebAuthnError,
)
from mpc.primitives import base64url
from mpc.threshold_rsa.share_package import PackageProblem

FAULTS = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, TandemError) and found is not TandemError
]


def instance(fault: type[TandemError]) -> TandemError:
    if fault is LockedOut:
        return LockedOut(30)
    if fault is InvalidOptions:
        return InvalidOptions("challenge", "is missing")
    if fault is ShareRefused:
        return ShareRefused("truncated")
    if fault in (ServerMisbehaved, ServerRefused, HistoryAltered):
        return fault("bad_tag")
    return fault()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_has_a_word_an_advice_and_a_sentence(fault: type[TandemError]) -> None:
    error = instance(fault)

    assert re.fullmatch(r"[a-z_]+", error.code)
    assert isinstance(error.advice, Advice)
    assert len(str(error)) > 20
    assert str(error) == error.message == error.args[0]
    first_paragraph = (fault.__doc__ or "").split("\n\n")[0]
    assert first_paragraph.count(" / ") == 1
    if isinstance(error, WebAuthnError):
        assert error.dom_name.endswith("Error")


def test_the_words_are_distinct() -> None:
    """Apps branch on the word."""
    words = [fault.code for fault in FAULTS if fault is not InvalidOptions]

    assert len(set(words)) == len(words)


@pytest.mark.parametrize("word", ["", "Quarantined", "two words", "x" * 41, "forged\nline", "<b>", "t\u00e9l\u00e9"])
def test_only_a_plain_word_of_the_server_is_repeated(word: str) -> None:
    """A hostile server must not write into an app's logs or pages."""
    refused = ServerRefused(word)
    misbehaved = ServerMisbehaved(word)

    assert refused.code == "refused"
    assert misbehaved.reason == "malformed"
    if word:
        assert word not in str(refused) + str(misbehaved)


def test_the_words_of_the_server_are_kept_when_plain() -> None:
    assert ServerRefused("index_ahead").code == "index_ahead"
    assert ServerMisbehaved("bad_tag").reason == "bad_tag"


def test_a_lockout_tells_how_long() -> None:
    assert LockedOut(30).retry_after_s == 30
    assert "30 s" in str(LockedOut(30))


def test_a_refusal_of_many_keys_stays_one_sentence_and_the_fault_names_them_all() -> None:
    """A vault may hold a thousand; the app deletes by the list, and the person reads the sentence."""
    key_ids = [bytes([at]) * 32 for at in range(5)]

    fault = ProvisionedKeyRefused(key_ids)

    assert fault.key_ids == tuple(key_ids)
    assert [base64url.encode(key_id) in str(fault) for key_id in key_ids] == [True, True, True, False, False]
    assert "and 2 more" in str(fault)
    assert "more" not in str(ProvisionedKeyRefused(key_ids[:3]))


@pytest.mark.parametrize("problem", list(PackageProblem))
def test_every_problem_of_a_share_has_its_own_word_and_sentence(problem: PackageProblem) -> None:
    """The protocol core may learn a new problem; the SDK must not call it by another's name."""
    fault = ShareRefused(problem.value)

    assert fault.reason == problem.value
    others = {str(ShareRefused(other.value)) for other in PackageProblem if other is not problem}
    assert str(fault) not in others


def test_an_unknown_reason_is_not_repeated() -> None:
    assert ShareRefused("<b>").reason == "altered"
