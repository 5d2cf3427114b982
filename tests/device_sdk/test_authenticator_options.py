"""Parsing WebAuthn options: what a relying party may send, and that nothing else gets through."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.authenticator.options import (
    DEFAULT_TIMEOUT_MS,
    MAX_OPTIONS_BYTES,
    MAX_TIMEOUT_MS,
    MIN_TIMEOUT_MS,
    AttestationForm,
    UserVerification,
    parse_creation_options,
    parse_request_options,
)
from device_sdk.errors import InvalidOptions, NotAllowed, NotSupported, WebAuthnError
from mpc.primitives import base64url

CHALLENGE = bytes(range(32))
CREDENTIAL_ID = bytes(range(100, 132))


def creation(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "rp": {"id": "example.org", "name": "Example"},
        "user": {"id": base64url.encode(b"user-1"), "name": "ada", "displayName": "Ada"},
        "challenge": base64url.encode(CHALLENGE),
        "pubKeyCredParams": [{"type": "public-key", "alg": -7}, {"type": "public-key", "alg": -257}],
    }
    options.update(changes)
    return options


def request(**changes: Any) -> dict[str, Any]:
    return {"challenge": base64url.encode(CHALLENGE), "rpId": "example.org"} | changes


def descriptor(credential_id: bytes = CREDENTIAL_ID, kind: str = "public-key") -> dict[str, Any]:
    return {"type": kind, "id": base64url.encode(credential_id), "transports": ["internal", "telepathy"]}


def algorithms(*listed: int) -> list[dict[str, Any]]:
    return [{"type": "public-key", "alg": algorithm} for algorithm in listed]


@pytest.mark.parametrize("form", ["dict", "str", "bytes"])
def test_creation_options_are_read_from_each_form(form: str) -> None:
    """Apps hold options as parsed JSON, as text or as a response body."""
    options: Any = creation()
    if form != "dict":
        options = json.dumps(options)
    if form == "bytes":
        options = options.encode()

    parsed = parse_creation_options(options)

    assert parsed.challenge == CHALLENGE
    assert (parsed.rp_id, parsed.rp_name) == ("example.org", "Example")
    assert (parsed.user_id, parsed.user_name, parsed.user_display_name) == (b"user-1", "ada", "Ada")
    assert parsed.algorithm == -257
    assert not parsed.discoverable
    assert not parsed.cred_props
    assert parsed.user_verification is UserVerification.PREFERRED
    assert parsed.attestation is AttestationForm.NONE
    assert parsed.excluded_ids == ()
    assert parsed.timeout_ms == DEFAULT_TIMEOUT_MS


def test_request_options_are_read() -> None:
    parsed = parse_request_options(request(allowCredentials=[descriptor()], userVerification="discouraged"))

    assert parsed.challenge == CHALLENGE
    assert parsed.rp_id == "example.org"
    assert parsed.allowed_ids == (CREDENTIAL_ID,)
    assert parsed.user_verification is UserVerification.DISCOURAGED


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        ([], -257),
        ([-257], -257),
        ([-37], -37),
        ([-8, -7, -257], -257),
        ([-37, -257], -37),
        ([-257, -37], -257),
    ],
)
def test_the_first_listed_rsa_algorithm_is_chosen(listed: list[int], chosen: int) -> None:
    """A relying party refuses a key of an algorithm that it did not list."""
    assert parse_creation_options(creation(pubKeyCredParams=algorithms(*listed))).algorithm == chosen


@pytest.mark.parametrize(
    "listed",
    [algorithms(-7), algorithms(-8, -7, -38, -65535), [{"type": "secret-key", "alg": -257}]],
)
def test_a_list_without_our_algorithms_is_not_supported(listed: list[dict[str, Any]]) -> None:
    """Only an empty list stands for the defaults; entries of unknown types are skipped, not believed."""
    with pytest.raises(NotSupported) as raised:
        parse_creation_options(creation(pubKeyCredParams=listed))

    assert raised.value.dom_name == "NotSupportedError"
    assert "-257" in str(raised.value)


@pytest.mark.parametrize(
    ("selection", "discoverable"),
    [
        ({}, False),
        ({"requireResidentKey": True}, True),
        ({"residentKey": "required"}, True),
        ({"residentKey": "preferred"}, True),
        ({"residentKey": "discouraged", "requireResidentKey": True}, False),
        ({"residentKey": "a later word", "requireResidentKey": True}, True),
        ({"residentKey": None, "requireResidentKey": None}, False),
    ],
)
def test_resident_key_goes_before_the_older_boolean(selection: dict[str, Any], discoverable: bool) -> None:
    parsed = parse_creation_options(creation(authenticatorSelection=selection))

    assert parsed.discoverable is discoverable


@pytest.mark.parametrize(
    ("preference", "form"),
    [
        ("none", AttestationForm.NONE),
        ("a later word", AttestationForm.NONE),
        ("direct", AttestationForm.PACKED),
        ("indirect", AttestationForm.PACKED),
        ("enterprise", AttestationForm.PACKED),
    ],
)
def test_the_attestation_preference_is_followed(preference: str, form: AttestationForm) -> None:
    assert parse_creation_options(creation(attestation=preference)).attestation is form


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        ("userVerificationOptional", 1),
        ("userVerificationOptionalWithCredentialIDList", 2),
        ("userVerificationRequired", 3),
        ("a later word", None),
        ("", None),
        (None, None),
    ],
)
def test_the_level_of_cred_protect(policy: str | None, level: int | None) -> None:
    extensions = {"credentialProtectionPolicy": policy, "enforceCredentialProtectionPolicy": True}

    assert parse_creation_options(creation(extensions=extensions)).cred_protect == level


@pytest.mark.parametrize(
    ("sent", "used"),
    [
        (0, MIN_TIMEOUT_MS),
        (60_000, 60_000),
        (60_000.0, 60_000),
        (10**30, MAX_TIMEOUT_MS),
        (float("inf"), MAX_TIMEOUT_MS),
    ],
)
def test_the_timeout_is_clamped(sent: float, used: int) -> None:
    """Neither an instant timeout nor one of a year serves the user."""
    assert parse_creation_options(creation(timeout=sent)).timeout_ms == used
    assert parse_request_options(request(timeout=sent)).timeout_ms == used


def test_unknown_members_are_ignored_and_cred_props_honoured() -> None:
    parsed = parse_creation_options(
        creation(hints=["client-device"], later={"x": 1}, extensions={"credProps": True, "prf": {"eval": {}}})
    )

    assert parsed.cred_props


def test_a_roaming_authenticator_is_not_what_we_are() -> None:
    with pytest.raises(NotAllowed):
        parse_creation_options(creation(authenticatorSelection={"authenticatorAttachment": "cross-platform"}))


@pytest.mark.parametrize("absent", [{}, {"allowCredentials": []}, {"allowCredentials": None}])
def test_no_allow_list_is_none(absent: dict[str, Any]) -> None:
    assert parse_request_options(request(**absent)).allowed_ids is None


def test_an_allow_list_of_unknown_types_is_not_an_absent_one() -> None:
    """Read as absent it would offer every account where the relying party allowed none."""
    parsed = parse_request_options(request(allowCredentials=[descriptor(kind="quantum-key")]))

    assert parsed.allowed_ids == ()


def test_excluded_ids_of_unknown_types_are_skipped() -> None:
    listed = [descriptor(b"a" * 16), descriptor(kind="quantum-key"), descriptor(b"b" * 16)]

    assert parse_creation_options(creation(excludeCredentials=listed)).excluded_ids == (b"a" * 16, b"b" * 16)


MALFORMED_CREATION = [
    ("rp", {"rp": None}),
    ("rp", {"rp": "SENTINEL"}),
    ("rp.name", {"rp": {"id": "example.org"}}),
    ("rp.id", {"rp": {"id": 7, "name": "x"}}),
    ("user", {"user": ["SENTINEL"]}),
    ("user.id", {"user": {"id": "", "name": "x", "displayName": "x"}}),
    ("user.id", {"user": {"id": base64url.encode(b"u" * 65), "name": "x", "displayName": "x"}}),
    ("user.id", {"user": {"id": "SENTINEL=", "name": "x", "displayName": "x"}}),
    ("user.name", {"user": {"id": "dXNlcg", "name": "SENTINEL" * 200, "displayName": "x"}}),
    ("user.name", {"user": {"id": "dXNlcg", "name": "SENTINEL\ud800", "displayName": "x"}}),
    ("user.displayName", {"user": {"id": "dXNlcg", "name": "x"}}),
    ("challenge", {"challenge": base64url.encode(bytes(15))}),
    ("challenge", {"challenge": "SENTINEL+/SENTINEL+/SENTINEL+/"}),
    ("challenge", {"challenge": "A" * 21 + "B"}),
    ("challenge", {"challenge": "SENTINEL" * 1000}),
    ("challenge", {"challenge": 5}),
    ("pubKeyCredParams", {"pubKeyCredParams": None}),
    ("pubKeyCredParams", {"pubKeyCredParams": "SENTINEL"}),
    ("pubKeyCredParams", {"pubKeyCredParams": algorithms(-257) * 1000}),
    ("pubKeyCredParams[0]", {"pubKeyCredParams": ["SENTINEL"]}),
    (
        "pubKeyCredParams[1].alg",
        {"pubKeyCredParams": [*algorithms(-7), {"type": "public-key", "alg": "SENTINEL"}]},
    ),
    ("pubKeyCredParams[0].alg", {"pubKeyCredParams": [{"type": "public-key", "alg": True}]}),
    ("pubKeyCredParams[0].type", {"pubKeyCredParams": [{"alg": -257}]}),
    ("excludeCredentials[0].id", {"excludeCredentials": [{"type": "public-key"}]}),
    ("excludeCredentials[0].id", {"excludeCredentials": [{"type": "public-key", "id": ""}]}),
    ("excludeCredentials[0].id", {"excludeCredentials": [descriptor(b"i" * 1024)]}),
    ("authenticatorSelection", {"authenticatorSelection": "SENTINEL"}),
    (
        "authenticatorSelection.requireResidentKey",
        {"authenticatorSelection": {"requireResidentKey": "SENTINEL"}},
    ),
    ("timeout", {"timeout": "SENTINEL"}),
    ("timeout", {"timeout": -1}),
    ("timeout", {"timeout": float("nan")}),
    ("timeout", {"timeout": True}),
    ("attestation", {"attestation": {"SENTINEL": 1}}),
    ("extensions", {"extensions": ["SENTINEL"]}),
    ("extensions.credProps", {"extensions": {"credProps": "SENTINEL"}}),
]


@pytest.mark.parametrize(("field", "changes"), MALFORMED_CREATION)
def test_a_malformed_member_is_named_but_never_repeated(field: str, changes: dict[str, Any]) -> None:
    """The name helps the developer; the value could forge log lines or carry personal data."""
    with pytest.raises(InvalidOptions) as raised:
        parse_creation_options(creation(**changes))

    assert raised.value.field == field
    assert raised.value.dom_name == "TypeError"
    assert str(raised.value).startswith(field + " ")
    assert "SENTINEL" not in repr(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "options",
    [
        "",
        "SENTINEL",
        '"SENTINEL"',
        "[]",
        "null",
        b"\xff\xfe{}",
        "\ud800",
        "[" * 60_000,
        '{"a":' * 10_000,
        "9" * 5000,
        " " * (MAX_OPTIONS_BYTES + 1),
        b"{}" + b" " * MAX_OPTIONS_BYTES,
        None,
        7,
        ["SENTINEL"],
    ],
)
def test_what_is_no_json_object_of_sane_size_is_refused(options: Any) -> None:
    for parse in (parse_creation_options, parse_request_options):
        with pytest.raises(InvalidOptions) as raised:
            parse(options)
        assert raised.value.field == "options"
        assert "SENTINEL" not in str(raised.value)


def test_nothing_the_relying_party_chose_is_in_the_repr() -> None:
    """Parsed options end up in debug logs."""
    parsed = parse_creation_options(creation(excludeCredentials=[descriptor()]))

    shown = repr(parsed)

    assert not any(word in shown for word in ("ada", "Ada", "user-1", "example.org", "Example", repr(CHALLENGE)))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("public-key"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FULL_CREATION = creation(
    authenticatorSelection={"residentKey": "preferred", "userVerification": "required"},
    excludeCredentials=[descriptor()],
    timeout=1000,
    attestation="direct",
    extensions={"credProps": True},
)
FULL_REQUEST = request(allowCredentials=[descriptor()], userVerification="required", timeout=1, extensions={"x": 1})


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in inner for path in [(*prefix, key), *_paths(item, (*prefix, key))]]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), junk=JSON_VALUES)
def test_any_replaced_member_gives_options_or_a_typed_error(data: st.DataObject, junk: Any) -> None:
    """Law: options come out or a WebAuthnError does, never another exception, whatever a page sends."""
    parse, template = data.draw(
        st.sampled_from([(parse_creation_options, FULL_CREATION), (parse_request_options, FULL_REQUEST)])
    )
    path = data.draw(st.sampled_from(_paths(template)))
    options = copy.deepcopy(template)
    target: Any = options
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = junk

    try:
        parsed: Any = parse(options)
    except WebAuthnError as error:
        spelt = json.dumps(junk) if not isinstance(junk, str) else junk
        if len(spelt) > 12:
            assert spelt not in str(error)
    else:
        assert len(parsed.challenge) >= 16
        assert MIN_TIMEOUT_MS <= parsed.timeout_ms <= MAX_TIMEOUT_MS


@settings(max_examples=200, deadline=None)
@given(options=JSON_VALUES | st.text() | st.binary())
def test_arbitrary_input_gives_a_typed_error(options: Any) -> None:
    for parse in (parse_creation_options, parse_request_options):
        with pytest.raises(WebAuthnError):
            parse(options)


@settings(deadline=None)
@given(data=st.binary(max_size=80))
def test_base64url_has_one_spelling(data: bytes) -> None:
    """Decoding inverts encoding, and no other text decodes to the same bytes."""
    text = base64url.encode(data)

    assert base64url.decode(text) == data
    for other in (text + "=", text + "\n", " " + text, text + "A" * (1 + (-len(text) - 1) % 4)):
        try:
            assert base64url.decode(other) != data
        except ValueError as error:
            assert str(error) == "is not unpadded base64url"


@pytest.mark.parametrize("text", ["A", "AB", "AAB", "A+", "A/", "AA==", "A\u00e9", "AAAAA"])
def test_base64url_refuses_what_is_not_canonical(text: str) -> None:
    with pytest.raises(ValueError, match="unpadded base64url"):
        base64url.decode(text)
