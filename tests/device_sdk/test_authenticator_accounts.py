"""Which credential answers, which is excluded, which is replaced."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from device_sdk.authenticator.accounts import (
    check_not_excluded,
    eligible_credentials,
    replaced_credentials,
    select_credential,
)
from device_sdk.errors import InvalidState, NotAllowed


@dataclass(frozen=True)
class Stored:
    credential_id: bytes
    created_at: float = 0.0
    rp_id: str = "example.org"
    user_handle: bytes = b"ada"
    user_name: str = "ada"
    discoverable: bool = True


OLD = Stored(b"old", 1.0)
NEW = Stored(b"new", 2.0, user_handle=b"bob")
HIDDEN = Stored(b"hidden", 3.0, discoverable=False)
ELSEWHERE = Stored(b"elsewhere", 4.0, rp_id="example.com")
ALL = [OLD, NEW, HIDDEN, ELSEWHERE]


def test_without_an_allow_list_only_discoverable_ones_answer_newest_first() -> None:
    assert eligible_credentials(ALL, "example.org", None) == [NEW, OLD]


def test_of_two_made_at_once_the_one_stored_later_comes_first() -> None:
    twin = Stored(b"twin", 2.0)

    assert eligible_credentials([NEW, twin], "example.org", None) == [twin, NEW]


def test_an_allow_list_admits_exactly_what_it_names_of_this_relying_party() -> None:
    """A credential of another relying party must not answer even if it is named."""
    assert eligible_credentials(ALL, "example.org", [b"hidden", b"elsewhere", b"?"]) == [HIDDEN]


@pytest.mark.parametrize("allowed", [(), (b"?",), (b"elsewhere",)])
def test_nothing_fitting_is_not_allowed(allowed: tuple[bytes, ...]) -> None:
    with pytest.raises(NotAllowed):
        select_credential(eligible_credentials(ALL, "example.org", allowed))


def test_no_stored_credential_is_not_allowed() -> None:
    with pytest.raises(NotAllowed):
        select_credential([])


def test_the_newest_is_the_default() -> None:
    assert select_credential([NEW, OLD]) is NEW


def test_the_callback_chooses_among_several() -> None:
    offered: list[list[Stored]] = []

    def choose(accounts: list[Stored]) -> bytes:
        offered.append(accounts)
        return b"old"

    assert select_credential([NEW, OLD], choose) is OLD
    assert offered == [[NEW, OLD]]


def test_the_callback_is_not_asked_about_one() -> None:
    def choose(_: list[Stored]) -> bytes:
        raise AssertionError("there was nothing to choose")

    assert select_credential([OLD], choose) is OLD


@pytest.mark.parametrize("answer", [None, b"hidden", b"elsewhere"])
def test_a_choice_outside_the_list_is_not_allowed(answer: bytes | None) -> None:
    with pytest.raises(NotAllowed):
        select_credential([NEW, OLD], lambda _: answer)


def test_an_excluded_credential_of_this_relying_party_is_an_invalid_state() -> None:
    with pytest.raises(InvalidState) as raised:
        check_not_excluded(ALL, "example.org", [b"?", b"hidden"])

    assert raised.value.dom_name == "InvalidStateError"


@pytest.mark.parametrize("excluded", [(), (b"?",), (b"elsewhere",)])
def test_other_exclusions_do_not_matter(excluded: tuple[bytes, ...]) -> None:
    """One relying party must not learn of the credentials of another."""
    check_not_excluded(ALL, "example.org", excluded)


def test_a_discoverable_credential_replaces_the_one_of_the_same_account() -> None:
    assert replaced_credentials(ALL, "example.org", b"ada", discoverable=True) == [OLD]
    assert replaced_credentials(ALL, "example.com", b"ada", discoverable=True) == [ELSEWHERE]
    assert replaced_credentials(ALL, "example.org", b"eve", discoverable=True) == []


def test_a_non_discoverable_credential_replaces_nothing() -> None:
    """Otherwise a second-factor registration would take away the user's passkey."""
    assert replaced_credentials(ALL, "example.org", b"ada", discoverable=False) == []
