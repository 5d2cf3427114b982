"""Provisioned keys under attack, seen from the device: servers that lie about halves, and strangers who deal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_TESTS = Path(__file__).parent.parent
if str(_TESTS / "state_machine") not in sys.path:
    sys.path.append(str(_TESTS / "state_machine"))

from state_machine_dealer import Dealt, deal, dealt_key, sealed  # noqa: E402
from state_machine_harness import (  # noqa: E402
    ADOPT,
    ENCODER,
    FACE,
    LOGINS,
    ORIGIN,
    PAIR,
    PROFILE,
    SERVER_URL,
    Answer,
    Clock,
    Network,
    Phone,
    Server,
    answer_to,
    creation_options,
)

from authsvc.errors import Refused  # noqa: E402
from authsvc.services import administration  # noqa: E402
from authsvc.services.context import SignedRequest  # noqa: E402
from authsvc.services.secrets_at_rest import seal_key_share  # noqa: E402
from authsvc.store.credentials import set_credential_share  # noqa: E402
from device_sdk import Device, KeyFile  # noqa: E402
from device_sdk.errors import (  # noqa: E402
    DeviceRestored,
    NoMatch,
    ProvisioningRequired,
    ServerHalfMissing,
    ServerMisbehaved,
    ServerRefused,
    ShareRefused,
    TandemError,
)
from mpc.login import server_side  # noqa: E402
from mpc.login.enrolment_messages import Accepted  # noqa: E402
from mpc.primitives import codec  # noqa: E402
from mpc.primitives.rng import SystemRng  # noqa: E402
from mpc.provisioning.manifest import Manifest, SignedManifest  # noqa: E402
from mpc.provisioning.signed_document import key_fingerprint  # noqa: E402
from mpc.threshold_rsa.share_package import MAX_TIME_S  # noqa: E402
from mpc.threshold_rsa.shares import split  # noqa: E402


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    """Enrolled, with a recipient, without a passkey."""
    clock = Clock()
    server = Server(tmp_path, clock)
    folder = tmp_path / "phone"
    folder.mkdir()
    (folder / "accounts.json").write_text("{}")
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=administration.issue_code(server.ctx, label="Ada").code,
        captures=[FACE] * 3,
        vault=folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=Network(server.serve, clock, server.profile_document),
    ).close()
    held = Phone(folder, server)
    held.server = server  # type: ignore[attr-defined]
    held.device.recipient()
    yield held
    held.crash()
    server.close()


@pytest.fixture
def server(phone: Phone) -> Server:
    running: Server = phone.server  # type: ignore[attr-defined]
    return running


def dealt_to(phone: Phone, server: Server) -> Dealt:
    dealt = deal(server.ctx, [phone.device.recipient()])
    dealt.import_into(server.ctx)
    return dealt


def answering(path: str, answer: Answer, phone: Phone) -> None:
    """From now on every request to `path` gets this answer."""
    honest = phone.network.serve

    def serve(request: SignedRequest) -> Answer:
        return answer if request.path == path else honest(request)

    phone.network.serve = serve


def vault_bytes(phone: Phone) -> bytes:
    return (phone.folder / "vault").read_bytes()


def nothing_released(phone: Phone, dealt: Dealt, fault: type[TandemError], *, counted: int) -> TandemError:
    """A registration fails: no response, no passkey, no next epoch, and the key waits with its counter moved."""
    sent = len(phone.network.requests)
    with pytest.raises(fault) as caught:
        phone.device.create(creation_options("grace"), ORIGIN, FACE)
    (waiting,) = phone.state.provisioned
    assert (waiting.key_id, waiting.sign_count) == (dealt.key_id(), counted)
    assert phone.state.credentials == () and phone.state.next is None and phone.state.epoch == 0
    assert phone.network.requests[sent:] != []
    assert {request.path for request in phone.network.requests[sent:]} <= {ADOPT, LOGINS}
    return caught.value


def paired_by_a_lie(phone: Phone, server: Server) -> Dealt:
    """The phone holds a half of another split than the server does, and both believe that the halves fit."""
    dealt = dealt_to(phone, server)
    own, _ = split(SystemRng(), *dealt_key(0))
    honest = phone.network.serve
    answering(PAIR, Answer(200, Accepted(0, 0).encode()), phone)
    assert own.key == dealt.keys[0]
    phone.device.import_share(sealed(own, phone.device.recipient(), bytes(16)))
    phone.network.serve = honest
    (row,) = server.credentials(phone.id)
    assert row.sealed_share is not None
    with server.store.write() as conn:
        set_credential_share(conn, row.id, row.sealed_share, "paired")
    return dealt


def test_a_server_that_says_yes_to_a_wrong_half_gets_no_signature_out(
    phone: Phone, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It skips every check of its own; the device still verifies the signature before anybody sees it."""
    dealt = paired_by_a_lie(phone, server)
    monkeypatch.setattr(server_side, "share_tag_is_valid", lambda *_: True)

    first = nothing_released(phone, dealt, ServerMisbehaved, counted=1)

    assert isinstance(first, ServerMisbehaved) and first.reason == "bad_partial_signature"
    assert phone.network.requests[-1].path == LOGINS, "nothing is said after the answer that failed"


def test_halves_that_do_not_fit_are_noticed_by_an_honest_server_too(phone: Phone, server: Server) -> None:
    """By the share check of the login, as with a tampered device; it answers with no half of a signature."""
    dealt = paired_by_a_lie(phone, server)

    fault = nothing_released(phone, dealt, TandemError, counted=1)

    assert fault.code == "quarantined"
    assert server.enrolment(phone.id).status_reason == "share_tag_failed"


def test_a_server_that_exchanges_its_half_after_pairing_gets_no_signature_out(
    phone: Phone, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once it has the right half again, the key registers: nothing was lost."""
    dealt = dealt_to(phone, server)
    phone.device.import_share(dealt.device_file())
    (row,) = server.credentials(phone.id)
    assert row.sealed_share is not None
    other = split(SystemRng(), *dealt_key(0))[1]
    wrong = seal_key_share(server.ctx.data_key(phone.id), row.id, other)

    with server.store.write() as conn:
        set_credential_share(conn, row.id, wrong, "paired")
    with monkeypatch.context() as patched:
        patched.setattr(server_side, "share_tag_is_valid", lambda *_: True)
        nothing_released(phone, dealt, ServerMisbehaved, counted=1)
    with server.store.write() as conn:
        set_credential_share(conn, row.id, row.sealed_share, "paired")

    assert phone.create("grace") == dealt.key_id()
    assert phone.confirm() and phone.get() == 3


def test_a_half_that_the_server_never_saw_cannot_be_adopted(phone: Phone, server: Server) -> None:
    """Whoever forges the yes to a pairing on the way has won nothing at the server."""
    dealt = dealt_to(phone, server)
    honest = phone.network.serve
    answering(PAIR, Answer(200, Accepted(0, 0).encode()), phone)
    phone.device.import_share(dealt.device_file())
    phone.network.serve = honest

    fault = nothing_released(phone, dealt, TandemError, counted=0)

    assert fault.code == "provisioned_key_refused" and server.states(phone.id) == []


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "an empty map": b"\xa0",
    "not CBOR": b"\xff\xff",
    "another version": codec.encode({"v": 2, "epoch": 0, "last_index": 0}),
    "an unknown field": codec.encode({"v": 1, "epoch": 0, "last_index": 0, "share": b"x"}),
    "a counter beyond the bound": codec.encode(
        {"v": 1, "epoch": 0, "last_index": 0, "sign_counts": [{"credential_id": bytes(32), "count": 2**32}]}
    ),
    "trailing bytes": Accepted(0, 0).encode() + b"\x00",
    "a negative epoch": codec.encode({"v": 1, "epoch": -1, "last_index": 0}),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_garbled_yes_to_pairing_stores_nothing(phone: Phone, server: Server, name: str) -> None:
    """Only a whole and well-formed yes is one."""
    dealt = dealt_to(phone, server)
    answering(PAIR, Answer(200, GARBAGE[name]), phone)
    before = vault_bytes(phone)

    with pytest.raises(ServerMisbehaved) as fault:
        phone.device.import_share(dealt.device_file())

    assert fault.value.reason == "malformed_answer"
    assert vault_bytes(phone) == before and phone.device.provisioned() == []


@pytest.mark.parametrize("name", GARBAGE)
def test_a_garbled_yes_to_adoption_releases_nothing(phone: Phone, server: Server, name: str) -> None:
    dealt = dealt_to(phone, server)
    phone.device.import_share(dealt.device_file())
    honest = phone.network.serve
    answering(ADOPT, Answer(200, GARBAGE[name]), phone)

    nothing_released(phone, dealt, ServerMisbehaved, counted=0)

    phone.network.serve = honest
    assert phone.create("grace") == dealt.key_id()


LIES: dict[str, tuple[str, Refused, type[TandemError], int]] = {
    "adoption: make one yourself, or not": (ADOPT, Refused("provisioning_required"), ProvisioningRequired, 0),
    "adoption: unknown word": (ADOPT, Refused("credential_conflict"), ServerRefused, 0),
    "login: no such credential": (LOGINS, Refused("credential_not_usable"), ServerRefused, 1),
    "login: your counter is old": (LOGINS, Refused("bad_authenticator_data", sign_count=9), DeviceRestored, 1),
}


@pytest.mark.parametrize("name", LIES)
def test_no_refusal_makes_the_device_use_another_key(phone: Phone, server: Server, name: str) -> None:
    """A fallback to a key that nobody dealt is what a server in the middle would like to provoke."""
    path, lie, fault, counted = LIES[name]
    dealt = dealt_to(phone, server)
    phone.device.import_share(dealt.device_file())
    answering(path, answer_to(lie), phone)

    nothing_released(phone, dealt, fault, counted=counted)

    assert [row.id for row in server.credentials(phone.id)] == [dealt.key_id()]


def test_a_pairing_moves_no_counter_but_its_own(phone: Phone, server: Server) -> None:
    """The answer may name any credential; believed, it would let the server wear out every passkey at once."""
    first, second = (deal(server.ctx, [phone.device.recipient()], which=which) for which in (0, 1))
    for dealt in (first, second):
        dealt.import_into(server.ctx)
    phone.device.import_share(first.device_file())
    counts = ((first.key_id(), 77), (second.key_id(), 5))
    answering(PAIR, Answer(200, Accepted(0, 0, counts).encode()), phone)

    phone.device.import_share(second.device_file())

    assert {key.key_id: key.sign_count for key in phone.state.provisioned} == {first.key_id(): 0, second.key_id(): 5}


def test_a_key_that_a_stranger_dealt_is_not_stored(phone: Phone, server: Server) -> None:
    """Anybody can seal to a public recipient, a key of which he kept the whole included."""
    own, _ = split(SystemRng(), *dealt_key(7))
    before, rows = vault_bytes(phone), server.dump()

    with pytest.raises(ServerHalfMissing):
        phone.device.import_share(sealed(own, phone.device.recipient(), b"stranger stranger"[:16]))

    assert vault_bytes(phone) == before and server.dump() == rows


def dealt_by_the_server(phone: Phone, server: Server) -> Dealt:
    """A key that the server's operator dealt, and of which he kept the whole; its own half does fit."""
    dealt = deal(server.ctx, [phone.device.recipient()], which=7)
    dealt.import_into(server.ctx)
    return dealt


def test_without_a_fingerprint_the_server_s_word_is_all_there_is(phone: Phone, server: Server) -> None:
    """What the guide says plainly: such a key is taken, and its maker can sign alone. Hence the next test."""
    dealt = dealt_by_the_server(phone, server)

    phone.device.import_share(dealt.device_file())

    assert phone.create("grace") == dealt.key_id()


def other_ceremony(phone: Phone, server: Server) -> tuple[Dealt, Dealt]:
    """(the ceremony that the team held, the one that the server held in its name)."""
    return deal(server.ctx, [phone.device.recipient()]), dealt_by_the_server(phone, server)


def test_a_server_cannot_pass_off_its_own_key_as_one_of_the_team_s_ceremony(phone: Phone, server: Server) -> None:
    """It hands the user its file with whichever manifest it likes; the fingerprint came from the witnesses."""
    team, rogue = other_ceremony(phone, server)
    before, rows = vault_bytes(phone), server.dump()
    sent = len(phone.network.requests)
    genuine = json.loads(team.manifest)
    mixed = json.dumps({**json.loads(rogue.manifest), "signing_key": genuine["signing_key"]}).encode()
    resigned = json.dumps({**genuine, "files": json.loads(rogue.manifest)["files"]}).encode()
    handed_over: dict[str, tuple[bytes | Path | None, str]] = {
        "its own manifest": (rogue.manifest, "other_ceremony_key"),
        "the team's manifest": (team.manifest, "not_in_manifest"),
        "the team's key over its own list": (mixed, "bad_manifest"),
        "the team's signature over its own files": (resigned, "bad_manifest"),
        "no JSON": (b"\x00", "bad_manifest"),
        "nothing": (None, "no_manifest"),
        "no file": (phone.folder / "none.json", "no_manifest"),
    }

    for name, (manifest, reason) in handed_over.items():
        with pytest.raises(ShareRefused) as fault:
            phone.device.import_share(rogue.device_file(), manifest=manifest, ceremony_key=team.ceremony_key)
        assert fault.value.reason == reason, name
        assert fault.value.__cause__ is None

    assert vault_bytes(phone) == before and server.dump() == rows
    assert len(phone.network.requests) == sent, "the server was not even asked"


def test_the_team_s_file_is_taken_by_its_manifest_however_it_is_spelt(phone: Phone, server: Server) -> None:
    """White space and the order of members are not signed, and fingerprints are typed as people type them."""
    dealt = dealt_to(phone, server)
    spelt = json.dumps(dict(reversed(json.loads(dealt.manifest).items()))).encode()
    file = phone.folder / "manifest.json"
    file.write_bytes(spelt)

    phone.device.import_share(
        dealt.device_file(), manifest=file, ceremony_key=dealt.ceremony_key.lower().replace("-", " ")
    )

    assert phone.create("grace") == dealt.key_id()


def test_the_listed_half_sealed_again_by_somebody_else_is_not_the_listed_file(phone: Phone, server: Server) -> None:
    """Key, terms and ceremony are those of the manifest; the bytes are not what the witnesses saw made."""
    dealt = dealt_to(phone, server)
    ceremony_id = SignedManifest.decode(dealt.manifest).manifest.ceremony_id
    own, _ = split(SystemRng(), *dealt_key(0))
    forged = sealed(own, phone.device.recipient(), ceremony_id)
    before, sent = vault_bytes(phone), len(phone.network.requests)

    with pytest.raises(ShareRefused) as fault:
        phone.device.import_share(forged, manifest=dealt.manifest, ceremony_key=dealt.ceremony_key)

    assert fault.value.reason == "not_in_manifest"
    assert vault_bytes(phone) == before and len(phone.network.requests) == sent


OTHER_LISTS: dict[str, Callable[[Manifest], Manifest]] = {
    "another device's key": lambda m: replace(m, keys=tuple(replace(key, device=key.server) for key in m.keys)),
    "another key": lambda m: replace(m, keys=tuple(replace(key, key=dealt_key(6)[0]) for key in m.keys)),
    "another relying party": lambda m: replace(m, rp_id="bank.example"),
    "another expiry": lambda m: replace(m, not_after=MAX_TIME_S),
    "another ceremony": lambda m: replace(m, ceremony_id=bytes(16)),
    "another path": lambda m: replace(m, files={path.replace("device/", "d/"): h for path, h in m.files.items()}),
    "another hash": lambda m: replace(m, files=dict.fromkeys(m.files, bytes(32))),
}


@pytest.mark.parametrize("name", OTHER_LISTS)
def test_a_list_that_says_anything_else_of_the_file_does_not_vouch_for_it(
    phone: Phone, server: Server, name: str
) -> None:
    """The signer is the right one each time: of his two ceremonies a share must not borrow the other's list."""
    dealt = dealt_to(phone, server)
    team = Ed25519PrivateKey.generate()
    fingerprint = key_fingerprint(team.public_key().public_bytes_raw())
    listed = SignedManifest.decode(dealt.manifest).manifest
    before, sent = vault_bytes(phone), len(phone.network.requests)

    with pytest.raises(ShareRefused) as fault:
        phone.device.import_share(
            dealt.device_file(), manifest=OTHER_LISTS[name](listed).sign(team), ceremony_key=fingerprint
        )

    assert fault.value.reason == "not_in_manifest"
    assert vault_bytes(phone) == before and len(phone.network.requests) == sent
    phone.device.import_share(dealt.device_file(), manifest=listed.sign(team), ceremony_key=fingerprint)


def test_a_manifest_without_a_fingerprint_is_a_mistake_of_the_caller(phone: Phone, server: Server) -> None:
    """Anybody can sign one. Taken in silence, the caller would believe that something was checked."""
    dealt = dealt_to(phone, server)
    before, sent = vault_bytes(phone), len(phone.network.requests)

    with pytest.raises(ValueError, match="fingerprint"):
        phone.device.import_share(dealt.device_file(), manifest=dealt.manifest)
    with pytest.raises(ValueError, match="eight groups"):
        phone.device.import_share(dealt.device_file(), manifest=dealt.manifest, ceremony_key="")

    assert vault_bytes(phone) == before and len(phone.network.requests) == sent


def test_a_longer_life_cannot_be_sealed_into_a_share(phone: Phone, server: Server) -> None:
    """Whoever holds the share may seal it again with another expiry; the pairing covers the dealt one."""
    dealt = deal(server.ctx, [phone.device.recipient()], not_after=int(server.clock()) + 10)
    dealt.import_into(server.ctx)
    phone.device.import_share(dealt.device_file())
    own = phone.state.provisioned[0]
    before, rows = vault_bytes(phone), server.dump()

    with pytest.raises(ServerHalfMissing):
        phone.device.import_share(
            sealed(own.key_share, phone.device.recipient(), own.ceremony_id, not_after=MAX_TIME_S)
        )

    assert vault_bytes(phone) == before and server.dump() == rows


def _spellings(value: int) -> list[bytes]:
    size = (value.bit_length() + 7) // 8
    big = value.to_bytes(size, "big")
    return [big[:24], big[-24:], big[::-1][:24], str(value).encode()[:40], big.hex().encode()[:40]]


def _steps(phone: Phone, dealt: Dealt) -> Iterator[Callable[[], object]]:
    yield lambda: phone.device.import_share(dealt.device_file())
    yield lambda: phone.device.import_share(dealt.server_file())
    yield lambda: phone.device.provisioned()
    yield lambda: phone.device.create(creation_options("grace"), ORIGIN, 1 - FACE)
    yield lambda: phone.create("grace")
    yield phone.get


def test_no_file_request_or_fault_shows_the_share_or_the_recipient_s_key(
    phone: Phone, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """Looked for as bytes, hexadecimal digits and decimals, in all that leaves the process."""
    dealt = dealt_to(phone, server)
    assert phone.state.recipient is not None
    key = int.from_bytes(phone.state.recipient.key.raw, "big")
    seen: list[bytes] = []
    shares: set[int] = set()

    for step in _steps(phone, dealt):
        try:
            seen.append(repr(step()).encode())
        except TandemError as fault:
            seen.append(repr((fault, fault.args, fault.__cause__, vars(fault))).encode())
        shares |= {abs(key.key_share.value) for key in phone.state.provisioned}
        shares |= {abs(credential.key_share.value) for credential in phone.state.credentials}
    seen += [repr((phone.state, phone.device, phone.store)).encode()]
    seen += [request.body for request in phone.network.requests]
    seen += [path.read_bytes() for path in phone.folder.iterdir() if path.is_file()]
    seen += [part.encode() for part in capfd.readouterr()]

    assert len(shares) >= 2, "the dealt share, and a refreshed one"
    for secret in (*shares, key):
        for spelling in _spellings(secret):
            assert not any(spelling in text for text in seen)


def test_a_key_cannot_be_moved_to_another_relying_party(phone: Phone, server: Server) -> None:
    """Sealed again with another name, the share is still the right number; the pairing covers the name too."""
    policy = replace(server.ctx.policy, allowed_rp_ids=frozenset({"shop.example", "bank.example"}))
    server.ctx = replace(server.ctx, policy=policy)
    dealt = dealt_to(phone, server)
    phone.device.import_share(dealt.device_file())
    own = phone.state.provisioned[0]
    before, rows = vault_bytes(phone), server.dump()

    with pytest.raises(ServerHalfMissing):
        phone.device.import_share(
            sealed(own.key_share, phone.device.recipient(), own.ceremony_id, rp_id="bank.example")
        )

    assert vault_bytes(phone) == before and server.dump() == rows


def test_a_server_that_says_yes_to_other_terms_signs_nothing_under_them(phone: Phone, server: Server) -> None:
    """Should the pairing be answered by somebody else, the server's row still decides what is signed."""
    policy = replace(server.ctx.policy, allowed_rp_ids=frozenset({"shop.example", "bank.example"}))
    server.ctx = replace(server.ctx, policy=policy)
    dealt = dealt_to(phone, server)
    phone.device.import_share(dealt.device_file())
    own = phone.state.provisioned[0]
    answering(PAIR, Answer(200, Accepted(0, 0).encode()), phone)
    phone.device.import_share(sealed(own.key_share, phone.device.recipient(), own.ceremony_id, rp_id="bank.example"))
    options = {**creation_options("grace"), "rp": {"id": "bank.example", "name": "Bank"}}

    with pytest.raises(TandemError) as fault:
        phone.device.create(options, "https://bank.example", FACE)

    assert fault.value.code == "bad_authenticator_data"
    assert phone.state.credentials == () and phone.state.next is None


def test_a_share_sealed_again_sets_no_counter_back(phone: Phone, server: Server) -> None:
    """A counter that is used twice would have the device accuse itself of being a copy."""
    dealt = dealt_to(phone, server)
    phone.device.import_share(dealt.device_file())
    with pytest.raises(NoMatch):
        phone.device.create(creation_options("grace"), ORIGIN, 1 - FACE)
    own = phone.state.provisioned[0]
    assert own.sign_count == 1
    answering(PAIR, Answer(200, Accepted(0, 0).encode()), phone)

    phone.device.import_share(sealed(own.key_share, phone.device.recipient(), own.ceremony_id, not_after=MAX_TIME_S))

    assert phone.state.provisioned == (replace(own, not_after=MAX_TIME_S),)
    assert phone.create("grace") == dealt.key_id()
