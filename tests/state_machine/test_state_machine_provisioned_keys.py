"""A dealt key comes to a phone, waits, and is registered; or is refused, and then nothing has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_dealer import Dealt, deal, dealt_key, sealed
from state_machine_harness import (
    ADOPT,
    FACE,
    LOGINS,
    ORIGIN,
    PAIR,
    STRANGER,
    Clock,
    Phone,
    Server,
    answer_to,
    creation_options,
    lose_answer,
    lose_request,
    to_base64,
)
from state_machine_thief import crafted_login

from authsvc.errors import Refused
from authsvc.services import administration
from authsvc.services.context import ServiceContext
from authsvc.store.credentials import set_credential_share
from device_sdk import AsyncDevice, CredentialInfo, ProvisionedKeyInfo
from device_sdk.errors import (
    NoMatch,
    NoRecipient,
    ProvisionedKeyRefused,
    ProvisioningRequired,
    ServerHalfMissing,
    ServerRefused,
    ShareExpired,
    ShareRefused,
    TandemError,
    TransportError,
    VaultFull,
)
from device_sdk.vault.provisioned import MAX_PROVISIONED_KEYS, ProvisionedKey
from device_sdk.vault.state import MAX_CREDENTIALS
from mpc.primitives.hpke import HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.share_package import Role, read_share_header
from mpc.threshold_rsa.shares import split


def vault_bytes(phone: Phone) -> bytes:
    """What is on disk; every write draws a new nonce, so equal bytes mean that nothing was written."""
    return (phone.folder / "vault").read_bytes()


def dealt_to(phone: Phone, server: Server, **how: object) -> Dealt:
    """A ceremony with one key for the phone, imported at the server."""
    dealt = deal(server.ctx, [phone.device.recipient()], **how)  # type: ignore[arg-type]
    dealt.import_into(server.ctx)
    return dealt


def with_waiting_key(phone: Phone, server: Server, **how: object) -> Dealt:
    dealt = dealt_to(phone, server, **how)
    phone.device.import_share(dealt.device_file())
    return dealt


def status(server: Server, phone: Phone, key_id: bytes) -> str:
    return next(row.status for row in server.credentials(phone.id) if row.id == key_id)


# ---- the recipient -------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(HpkeSuite))
def test_the_recipient_is_made_once_and_kept(phone: Phone, suite: HpkeSuite) -> None:
    """A dealer may come years later: what he was given must still open."""
    made = phone.device.recipient(suite=suite.value, name="ann's phone")
    phone.restart()
    before = vault_bytes(phone)

    again = phone.device.recipient()

    assert again == made and again.document == made.document
    assert Recipient.decode(made.document).fingerprint == made.fingerprint
    assert (made.role, made.enrolment_id, made.server_id) == (Role.DEVICE, phone.id, phone.state.server_id)
    assert (made.public_key.suite, made.name) == (suite, "ann's phone")
    assert vault_bytes(phone) == before
    assert phone.network.requests == []


def test_another_suite_or_name_than_the_one_made_is_an_error(phone: Phone) -> None:
    """Silence would hand out a weaker suite than the caller asked for."""
    phone.device.recipient()
    before = vault_bytes(phone)

    with pytest.raises(ValueError, match="suite"):
        phone.device.recipient(suite="mlkem768-x25519")
    with pytest.raises(ValueError, match="name"):
        phone.device.recipient(name="another")
    with pytest.raises(ValueError):
        phone.device.recipient(suite="rot13", renew=True)
    with pytest.raises(ValueError):
        phone.device.recipient(name="two\nlines", renew=True)
    assert vault_bytes(phone) == before


def test_a_renewed_recipient_opens_only_what_is_sealed_to_it(phone: Phone, server: Server) -> None:
    """The old private key is gone, also for whoever gets at the vault afterwards."""
    dealt = dealt_to(phone, server)
    old = phone.device.recipient()

    renewed = phone.device.recipient(renew=True, suite="mlkem768-x25519")

    assert renewed.id != old.id and renewed.public_key.suite is HpkeSuite.MLKEM768_X25519
    assert refused(phone, dealt.device_file()) == "other_recipient"
    share = split(SystemRng(), *dealt_key(5))[0]
    assert refused(phone, sealed(share, old, bytes(16))) == "other_recipient"
    assert phone.device.recipient() == renewed


def test_the_exported_key_opens_the_shares_and_needs_the_passphrase(phone: Phone, server: Server) -> None:
    """It is what a dealer rewraps a lost device's halves with."""
    recipient = phone.device.recipient()

    exported = phone.device.export_recipient_key("correct horse battery")

    opened = RecipientKey.unprotect(exported, "correct horse battery")
    assert opened.recipient == recipient
    assert opened.key.raw not in exported
    with pytest.raises(ValueError, match="12 characters"):
        phone.device.export_recipient_key("short")


def test_a_vault_without_a_recipient_says_so(phone: Phone, server: Server) -> None:
    _, stranger = new_recipient(
        role=Role.DEVICE, name="x", server_id="auth.example", enrolment_id=phone.id, suite=HpkeSuite.X25519, now=1
    )
    share = split(SystemRng(), *dealt_key(0))[0]
    before = vault_bytes(phone)

    with pytest.raises(NoRecipient):
        phone.device.import_share(sealed(share, stranger, bytes(16)))
    with pytest.raises(NoRecipient):
        phone.device.export_recipient_key("correct horse battery")
    assert vault_bytes(phone) == before and phone.network.requests == []


def test_a_retired_recipient_opens_nothing_and_what_was_imported_still_registers(phone: Phone, server: Server) -> None:
    """A kept copy of the folder adds up to its keys for ever, so what opens one half of it should not stay."""
    dealt = dealt_to(phone, server)
    phone.device.import_share(dealt.device_file())
    old = phone.device.recipient()
    sent = len(phone.network.requests)

    phone.device.retire_recipient()
    phone.restart()

    assert phone.state.recipient is None
    retired = vault_bytes(phone)
    phone.device.retire_recipient()
    with pytest.raises(NoRecipient):
        phone.device.import_share(dealt.device_file())
    with pytest.raises(NoRecipient):
        phone.device.export_recipient_key("correct horse battery")
    assert vault_bytes(phone) == retired and len(phone.network.requests) == sent
    assert phone.device.recipient().id != old.id
    assert refused(phone, dealt.device_file()) == "other_recipient"
    assert phone.create("grace") == dealt.key_id()


# ---- the honest way ------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [65537, 3])
def test_a_dealt_key_carries_a_registration_and_three_logins(phone: Phone, server: Server, exponent: int) -> None:
    """The relying party sees the key that was dealt, under its thumbprint, and knows nothing else of it."""
    dealt = dealt_to(phone, server, exponent=exponent)
    file = phone.folder / "key.share"
    file.write_bytes(dealt.device_file())

    imported = phone.device.import_share(file)
    assert phone.device.provisioned() == [imported]
    assert imported == ProvisionedKeyInfo(
        dealt.key_id(), "shop.example", None, phone.state.provisioned[0].ceremony_id, in_use=False
    )
    assert status(server, phone, dealt.key_id()) == "paired"
    credential_id = phone.create("grace")
    for _ in range(3):
        assert phone.get(credential_id=credential_id) > 0
    phone.restart()
    assert phone.get(credential_id=credential_id) > 0

    assert credential_id == dealt.key_id()
    assert phone.device.provisioned() == []
    assert phone.state.credential(credential_id).key_share.key == dealt.keys[0]
    assert status(server, phone, credential_id) == "active"
    assert [request.path for request in phone.network.requests[:3]] == [PAIR, ADOPT, LOGINS]


def test_a_dealt_key_signs_ps256_where_that_is_all_the_relying_party_takes(phone: Phone, server: Server) -> None:
    """The algorithm is chosen at registration, not by the dealer."""
    dealt = with_waiting_key(phone, server)
    options = {**creation_options("grace"), "pubKeyCredParams": [{"type": "public-key", "alg": -37}]}

    made = phone.device.create(options, ORIGIN, FACE, modulus_bits=4096)

    assert made["response"]["publicKeyAlgorithm"] == -37
    held = phone.state.credential(dealt.key_id())
    assert (held.algorithm.name, held.key_share.key.bits) == ("PS256", 2048)


def test_the_oldest_import_is_taken_first_and_then_the_phone_makes_its_own(phone: Phone, server: Server) -> None:
    """One ceremony may deal a device more keys than one, for several accounts."""
    recipient = phone.device.recipient()
    first, second = deal(server.ctx, [recipient]), deal(server.ctx, [recipient], which=1)
    for dealt in (second, first):
        dealt.import_into(server.ctx)
        phone.device.import_share(dealt.device_file())

    made = [phone.create(user) for user in ("a", "b", "c")]

    assert made[:2] == [second.key_id(), first.key_id()]
    assert made[2] not in (first.key_id(), second.key_id())


def test_a_key_for_another_relying_party_is_left_alone(phone: Phone, server: Server) -> None:
    server.ctx = with_policy(server, allowed_rp_ids=frozenset({"shop.example", "bank.example"}))
    dealt = with_waiting_key(phone, server, rp_id="bank.example")

    assert phone.create("grace") != dealt.key_id()

    assert [key.key_id for key in phone.device.provisioned()] == [dealt.key_id()]


def test_importing_again_keeps_the_counter_and_a_passkey_in_use_as_it_is(phone: Phone, server: Server) -> None:
    """Scripts repeat themselves. What waits is shown to the server again; what is in use nobody is asked about."""
    dealt = with_waiting_key(phone, server)
    with pytest.raises(NoMatch):
        phone.device.create(creation_options("grace"), ORIGIN, STRANGER)
    waiting = phone.state.provisioned
    sent = len(phone.network.requests)

    again = phone.device.import_share(dealt.device_file())
    assert (again.key_id, again.in_use) == (dealt.key_id(), False)
    assert phone.state.provisioned == waiting and waiting[0].sign_count == 1
    phone.create("grace")
    used = vault_bytes(phone)
    assert phone.device.import_share(dealt.device_file()).in_use

    assert vault_bytes(phone) == used
    assert [request.path for request in phone.network.requests[sent:]] == [PAIR, ADOPT, LOGINS]


def test_asyncio_has_the_same_calls(phone: Phone, server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        device = AsyncDevice(phone.device)
        recipient = await device.recipient(name="async")
        dealt = deal(server.ctx, [recipient])
        dealt.import_into(server.ctx)
        info = await device.import_share(dealt.device_file(), manifest=dealt.manifest, ceremony_key=dealt.ceremony_key)
        assert device.provisioned() == [info]
        assert RecipientKey.unprotect(await device.export_recipient_key("twelve letters"), "twelve letters")
        await device.retire_recipient()
        assert phone.state.recipient is None
        made = await device.create(creation_options("grace"), ORIGIN, FACE)
        assert phone.relying_party.register(made) == dealt.key_id()

    asyncio.run(story())


# ---- refused: nothing is stored ------------------------------------------------------------------


def refused(phone: Phone, source: bytes | str | Path) -> str:
    """The reason; the vault is as it was, and the server was not asked."""
    before, sent = vault_bytes(phone), len(phone.network.requests)
    with pytest.raises(ShareRefused) as fault:
        phone.device.import_share(source)
    assert vault_bytes(phone) == before and len(phone.network.requests) == sent
    assert fault.value.__cause__ is None
    return fault.value.reason


def test_each_wrong_file_has_its_own_fault(phone: Phone, server: Server, tmp_path: Path) -> None:
    """The person with the wrong file must learn which mistake it was."""
    _, other_device = new_recipient(
        role=Role.DEVICE, name="b", server_id="auth.example", enrolment_id=bytes(16), suite=HpkeSuite.X25519, now=1
    )
    dealt = deal(server.ctx, [phone.device.recipient(), other_device])
    file = dealt.device_file()
    header_end = 7 + int.from_bytes(file[5:7], "big")

    assert refused(phone, b"") == "not_a_share"
    assert refused(phone, b"PK\x03\x04 a zip") == "not_a_share"
    assert refused(phone, file[:4] + b"\x02" + file[5:]) == "unknown_version"
    for cut in (3, 4, 5, 6, header_end - 1, header_end + 3, len(file) // 2, len(file) - 1):
        assert refused(phone, file[:cut]) == "truncated"
    for at in (file.index(read_share_header(file).ceremony_id), header_end + 4, len(file) - 1):
        assert refused(phone, file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]) == "altered"
    assert refused(phone, file + b"\x00") == "altered"
    assert refused(phone, file[:header_end] + b"\x7f\xff\xff\xff" + bytes(20_000)) == "altered"
    assert refused(phone, dealt.server_file()) == "other_role"
    assert refused(phone, dealt.device_file(1)) == "other_recipient"
    assert refused(phone, tmp_path / "no such file") == "unreadable"
    assert refused(phone, str(tmp_path)) == "unreadable"
    assert refused(phone, "a\x00b") == "unreadable"


def test_a_header_of_another_key_does_not_open_the_share(phone: Phone, server: Server) -> None:
    """The header is what people and programs look at first: it must not be exchangeable."""
    recipient = phone.device.recipient()
    one, other = (deal(server.ctx, [recipient], which=which).device_file() for which in (0, 1))
    cut = 7 + int.from_bytes(one[5:7], "big")
    assert cut == 7 + int.from_bytes(other[5:7], "big")

    assert refused(phone, one[:cut] + other[cut:]) == "altered"


def test_a_relying_party_that_cannot_exist_is_refused(phone: Phone) -> None:
    """No create() could ever take such a key, and its owner would wait for it."""
    share = split(SystemRng(), *dealt_key(0))[0]

    for rp_id in ("shop..example", "127.0.0.1", "-shop.example"):
        assert refused(phone, sealed(share, phone.device.recipient(), bytes(16), rp_id=rp_id)) == "bad_rp_id"


def test_without_the_server_half_nothing_is_stored(phone: Phone, server: Server) -> None:
    """A half alone signs nothing; the sentence sends the user to the operator, and the same call works later."""
    dealt = deal(server.ctx, [phone.device.recipient()])
    before = vault_bytes(phone)

    with pytest.raises(ServerHalfMissing, match="not imported yet"):
        phone.device.import_share(dealt.device_file())

    assert vault_bytes(phone) == before
    assert [request.path for request in phone.network.requests] == [PAIR]
    dealt.import_into(server.ctx)
    assert phone.device.import_share(dealt.device_file()).key_id == dealt.key_id()


def test_a_half_of_another_split_of_the_same_key_is_not_stored(phone: Phone, server: Server) -> None:
    """Both halves name the key truthfully and still do not fit: only the proof can tell."""
    dealt = dealt_to(phone, server)
    other = split(SystemRng(), *dealt_key(0))[0]
    assert other.key == dealt.keys[0]
    before = vault_bytes(phone)

    with pytest.raises(ServerHalfMissing):
        phone.device.import_share(sealed(other, phone.device.recipient(), bytes(16)))

    assert vault_bytes(phone) == before and status(server, phone, dealt.key_id()) == "provisioned"


@pytest.mark.parametrize("fate", [lose_request, lose_answer])
def test_a_lost_pairing_stores_nothing_and_is_repeated(phone: Phone, server: Server, fate: object) -> None:
    dealt = dealt_to(phone, server)
    before = vault_bytes(phone)
    phone.network.plan(PAIR, fate)  # type: ignore[arg-type]

    with pytest.raises(TransportError):
        phone.device.import_share(dealt.device_file())

    assert vault_bytes(phone) == before
    phone.device.import_share(dealt.device_file())
    assert phone.create("grace") == dealt.key_id()


def test_two_phones_each_take_their_own(phone: Phone, clone: Phone, server: Server) -> None:
    """A copied vault is another matter; here the file of one phone is given to the next."""
    dealt = dealt_to(phone, server)

    with pytest.raises(NoRecipient):
        clone.device.import_share(dealt.device_file())
    clone.device.recipient()
    assert refused(clone, dealt.device_file()) == "other_recipient"
    phone.device.import_share(dealt.device_file())

    assert phone.create("grace") == dealt.key_id()


def test_a_vault_takes_no_more_keys_than_it_could_open_again(phone: Phone, server: Server) -> None:
    """A list too long to decode would lock everybody out of the vault."""
    dealt = dealt_to(phone, server)
    share = split(SystemRng(), *dealt_key(1))[0]
    many = tuple(
        ProvisionedKey(replace(share, key=replace(share.key, modulus=share.key.modulus + 2 * at)), "x", None, bytes(16))
        for at in range(MAX_PROVISIONED_KEYS)
    )
    phone.store.change(lambda state: replace(state, provisioned=many))

    assert refused(phone, dealt.device_file()) == "vault_full"

    phone.restart()
    assert len(phone.device.provisioned()) == MAX_PROVISIONED_KEYS


# ---- expiry --------------------------------------------------------------------------------------


def test_an_expired_share_is_not_imported(phone: Phone, server: Server, clock: Clock) -> None:
    """The last second still counts, as it does for the server."""
    until = int(clock())
    dealt = dealt_to(phone, server, not_after=until)
    clock.advance(1)
    before = vault_bytes(phone)

    with pytest.raises(ShareExpired):
        phone.device.import_share(dealt.device_file())

    assert vault_bytes(phone) == before
    clock.advance(-1)
    assert phone.device.import_share(dealt.device_file()).not_after == until


def test_an_expired_key_is_never_replaced_by_one_that_nobody_dealt(phone: Phone, server: Server, clock: Clock) -> None:
    """The security team would believe that the relying party holds a dealt key."""
    dealt = with_waiting_key(phone, server, not_after=int(clock()) + 10)
    clock.advance(11)
    before = vault_bytes(phone)

    with pytest.raises(ShareExpired):
        phone.create("grace")

    assert vault_bytes(phone) == before
    phone.device.delete(dealt.key_id())
    assert phone.device.provisioned() == []
    assert phone.create("grace") != dealt.key_id()


def test_an_unexpired_key_is_taken_before_an_older_expired_one(phone: Phone, server: Server, clock: Clock) -> None:
    recipient = phone.device.recipient()
    first = deal(server.ctx, [recipient], not_after=int(clock()) + 10)
    second = deal(server.ctx, [recipient], which=1)
    for dealt in (first, second):
        dealt.import_into(server.ctx)
        phone.device.import_share(dealt.device_file())
    clock.advance(11)

    assert phone.create("grace") == second.key_id()
    assert [key.key_id for key in phone.device.provisioned()] == [first.key_id()]


def test_a_clock_set_back_on_the_phone_does_not_revive_a_key(phone: Phone, server: Server, clock: Clock) -> None:
    """The server has a clock too, and no signature comes about without it."""
    dealt = with_waiting_key(phone, server, not_after=int(clock()) + 10)
    clock.advance(11)
    phone.device.authenticator.clock = Clock(clock() - 100)

    with pytest.raises(ProvisionedKeyRefused):
        phone.create("grace")

    assert [key.key_id for key in phone.device.provisioned()] == [dealt.key_id()]
    assert not any(credential.provisional for credential in phone.state.credentials)


def test_an_expired_passkey_asks_for_no_finger(phone: Phone, server: Server, clock: Clock) -> None:
    """A capture and an attempt of the day's budget would be spent on a request that the server has to refuse."""
    until = int(clock()) + 10
    dealt = with_waiting_key(phone, server, not_after=until)
    assert phone.create("grace") == dealt.key_id() and phone.confirm()
    phone.restart()
    (info,) = [held for held in phone.device.credentials() if held.credential_id == dealt.key_id()]
    clock.advance(10)
    assert info.not_after == until and phone.get(credential_id=dealt.key_id()) == 2
    clock.advance(1)
    before, sent = vault_bytes(phone), len(phone.network.requests)

    def captured() -> object:
        raise AssertionError("nobody should be asked")

    options = {"challenge": "A" * 43, "rpId": "shop.example"}
    allowed = [{"type": "public-key", "id": to_base64(dealt.key_id())}]
    with pytest.raises(ShareExpired):
        phone.device.get({**options, "allowCredentials": allowed}, ORIGIN, captured)
    with pytest.raises(ShareExpired):
        phone.device.create({**creation_options("grace"), "excludeCredentials": allowed}, ORIGIN, FACE)

    assert vault_bytes(phone) == before and len(phone.network.requests) == sent
    phone.device.authenticator.clock = Clock(until)
    with pytest.raises(ServerRefused) as fault:
        phone.get(credential_id=dealt.key_id())
    assert fault.value.code == "credential_not_usable", "the server's clock decides"


def test_an_expired_passkey_steps_aside_for_one_that_still_holds(phone: Phone, server: Server, clock: Clock) -> None:
    (old,) = phone.device.credentials()
    dealt = with_waiting_key(phone, server, not_after=int(clock()) + 10)
    phone.create("grace")
    offered: list[bytes] = []
    options = {"challenge": "A" * 43, "rpId": "shop.example"}
    clock.advance(11)

    def choose(held: Sequence[CredentialInfo]) -> bytes:
        offered.extend(info.credential_id for info in held)
        return held[0].credential_id

    signed = phone.device.get(options, ORIGIN, FACE, choose_account=choose)

    assert signed["id"] == to_base64(old.credential_id) and offered == [], "of one there is nothing to choose"
    assert dealt.key_id() in [info.credential_id for info in phone.device.credentials()]


# ---- registrations that fail ---------------------------------------------------------------------


def no_match(phone: Phone) -> None:
    with pytest.raises(NoMatch):
        phone.device.create(creation_options("grace"), ORIGIN, STRANGER)


def lost(path: str, fate: object) -> Callable[[Phone], None]:
    def fail(phone: Phone) -> None:
        phone.network.plan(path, fate)  # type: ignore[arg-type]
        with pytest.raises(TransportError):
            phone.create("grace")

    return fail


FAILURES = {
    "no match": (no_match, 1),
    "adoption lost": (lost(ADOPT, lose_request), 0),
    "adoption's answer lost": (lost(ADOPT, lose_answer), 0),
    "login lost": (lost(LOGINS, lose_request), 1),
    "login's answer lost": (lost(LOGINS, lose_answer), 1),
}


@pytest.mark.parametrize("name", FAILURES)
def test_after_a_failed_registration_the_key_waits_for_the_next(phone: Phone, server: Server, name: str) -> None:
    """Its counter stays where the attempt took it: the server counts each credential id upwards only."""
    fail, counted = FAILURES[name]
    dealt = with_waiting_key(phone, server)

    fail(phone)
    fail(phone)
    phone.restart()

    (waiting,) = phone.state.provisioned
    assert (waiting.key_id, waiting.sign_count) == (dealt.key_id(), 2 * counted)
    assert not any(credential.provisional for credential in phone.state.credentials)
    assert dealt.key_id() not in [info.credential_id for info in phone.device.credentials()]
    assert phone.create("grace") == dealt.key_id()
    assert phone.confirm() and phone.get(credential_id=dealt.key_id()) == 2 * counted + 2
    assert not phone.state.overtaken


def test_a_key_that_the_server_refuses_does_not_block_a_newer_one(phone: Phone, server: Server) -> None:
    """The operator revoked one key and dealt another; the user must not have to know of the first."""
    recipient = phone.device.recipient()
    dealt = [deal(server.ctx, [recipient], which=which) for which in (0, 1)]
    for one in dealt:
        one.import_into(server.ctx)
        phone.device.import_share(one.device_file())
    administration.revoke_credential(server.ctx, dealt[0].key_id())

    assert phone.create("grace") == dealt[1].key_id()

    assert [key.key_id for key in phone.device.provisioned()] == [dealt[0].key_id()]
    assert [request.path for request in phone.network.requests[-3:]] == [ADOPT, ADOPT, LOGINS]


def test_where_all_are_refused_the_fault_names_the_keys_to_delete(phone: Phone, server: Server) -> None:
    recipient = phone.device.recipient()
    dealt = [deal(server.ctx, [recipient], which=which) for which in (0, 1)]
    for one in dealt:
        one.import_into(server.ctx)
        phone.device.import_share(one.device_file())
        administration.revoke_credential(server.ctx, one.key_id())

    with pytest.raises(ProvisionedKeyRefused) as fault:
        phone.create("grace")

    assert fault.value.key_ids == tuple(one.key_id() for one in dealt)
    assert all(to_base64(one.key_id()) in str(fault.value) for one in dealt)
    assert [key.key_id for key in phone.device.provisioned()] == list(fault.value.key_ids)
    assert not any(credential.provisional for credential in phone.state.credentials)
    for key_id in fault.value.key_ids:
        phone.device.delete(key_id)
    assert phone.create("grace") not in fault.value.key_ids


def test_a_server_set_back_to_before_the_pairing_is_shown_the_half_again(phone: Phone, server: Server) -> None:
    """Its database was restored, and the device's half waits already; deleting it would be the end of the key."""
    dealt = with_waiting_key(phone, server)
    no_match(phone)
    (row,) = [row for row in server.credentials(phone.id) if row.id == dealt.key_id()]
    assert row.sealed_share is not None
    with server.store.write() as conn:
        set_credential_share(conn, row.id, row.sealed_share, "provisioned")

    with pytest.raises(ProvisionedKeyRefused) as fault:
        phone.create("grace")
    assert fault.value.key_ids == (dealt.key_id(),)
    phone.device.import_share(dealt.device_file())

    assert status(server, phone, dealt.key_id()) == "paired"
    assert phone.state.provisioned[0].sign_count == 1
    assert phone.create("grace") == dealt.key_id() and not phone.state.overtaken


def test_a_share_imported_again_that_the_server_refuses_waits_on(phone: Phone, server: Server) -> None:
    """The vault is as it was: what the server says today may be put right tomorrow."""
    dealt = with_waiting_key(phone, server)
    administration.revoke_credential(server.ctx, dealt.key_id())
    before = vault_bytes(phone)

    with pytest.raises(ServerHalfMissing, match="nothing was changed"):
        phone.device.import_share(dealt.device_file())

    assert vault_bytes(phone) == before
    assert [key.key_id for key in phone.device.provisioned()] == [dealt.key_id()]


def test_a_vault_of_before_the_import_takes_the_half_again_with_its_counter(phone: Phone, server: Server) -> None:
    """A failed registration has moved the server's row on; without its counter the next one would look like a copy."""
    dealt = dealt_to(phone, server)
    earlier = vault_bytes(phone)
    phone.device.import_share(dealt.device_file())
    no_match(phone)
    no_match(phone)
    assert status(server, phone, dealt.key_id()) == "provisional"
    phone.crash()
    (phone.folder / "vault").write_bytes(earlier)
    phone.open()
    phone.device.recover(administration.lift(server.ctx, phone.id, also_active=True).code)

    phone.device.import_share(dealt.device_file())

    assert phone.state.provisioned[0].sign_count == 2
    assert phone.create("grace") == dealt.key_id() and not phone.state.overtaken


def test_a_vault_full_of_passkeys_refuses_one_more_and_still_opens(phone: Phone, server: Server) -> None:
    """One more than it can read would lock its owner out of all of them."""
    dealt = with_waiting_key(phone, server)
    (held,) = phone.state.credentials
    many = tuple(replace(held, credential_id=at.to_bytes(32, "big")) for at in range(MAX_CREDENTIALS - 1))
    phone.store.change(lambda state: replace(state, credentials=(*many, held)))
    before, sent = vault_bytes(phone), len(phone.network.requests)

    for _ in range(2):
        with pytest.raises(VaultFull):
            phone.device.create(creation_options("grace"), ORIGIN, FACE)

        assert vault_bytes(phone) == before and len(phone.network.requests) == sent
        phone.restart()
    phone.store.change(lambda state: replace(state, credentials=(*many[1:], held)))
    assert phone.create("grace") == dealt.key_id()
    phone.restart()
    assert len(phone.device.credentials()) == MAX_CREDENTIALS


def test_a_key_revoked_at_the_server_is_not_replaced_either(phone: Phone, server: Server) -> None:
    """Until somebody deletes it, the phone does not fall back on a key of its own."""
    dealt = with_waiting_key(phone, server)
    administration.revoke_credential(server.ctx, dealt.key_id())

    with pytest.raises(ProvisionedKeyRefused):
        phone.create("grace")

    assert [key.key_id for key in phone.device.provisioned()] == [dealt.key_id()]
    phone.device.delete(dealt.key_id())
    with pytest.raises(ServerHalfMissing):
        phone.device.import_share(dealt.device_file())
    assert phone.create("grace") != dealt.key_id()


def test_deleting_a_waiting_key_is_final_on_both_sides(phone: Phone, server: Server) -> None:
    dealt = with_waiting_key(phone, server)

    phone.device.delete(dealt.key_id())

    assert phone.device.provisioned() == [] and status(server, phone, dealt.key_id()) == "revoked"
    assert dealt.import_into(server.ctx).revoked == (dealt.key_id(),)
    with pytest.raises(ServerHalfMissing):
        phone.device.import_share(dealt.device_file())
    with pytest.raises(KeyError):
        phone.device.delete(dealt.key_id())


def test_where_only_dealt_keys_are_taken_the_phone_says_what_to_do(phone: Phone, server: Server) -> None:
    server.ctx = with_policy(server, provisioned_only_rp_ids=frozenset({"shop.example"}))
    before = {info.credential_id for info in phone.device.credentials()}

    with pytest.raises(ProvisioningRequired, match="import the share"):
        phone.create("grace")

    assert {credential.credential_id for credential in phone.state.credentials} == before
    dealt = with_waiting_key(phone, server)
    assert phone.create("grace") == dealt.key_id()


def test_an_excluded_passkey_is_told_before_a_waiting_key_is_touched(phone: Phone, server: Server) -> None:
    with_waiting_key(phone, server)
    (old,) = phone.device.credentials()
    waiting = phone.state.provisioned
    excluded = [{"type": "public-key", "id": next(iter(phone.relying_party.accounts))}]
    assert phone.relying_party.knows(old.credential_id)

    with pytest.raises(TandemError) as fault:
        phone.device.create({**creation_options("ada"), "excludeCredentials": excluded}, ORIGIN, FACE)

    assert fault.value.code == "invalid_state"
    assert phone.state.provisioned == waiting
    assert ADOPT not in [request.path for request in phone.network.requests]


def test_a_dealt_passkey_takes_the_place_of_the_account_s_old_one(phone: Phone, server: Server) -> None:
    """And the old one's share is gone at the server."""
    (old,) = phone.device.credentials()
    dealt = with_waiting_key(phone, server)

    phone.create("ada")

    assert [info.credential_id for info in phone.device.credentials()] == [dealt.key_id()]
    assert status(server, phone, old.credential_id) == "revoked"


def test_a_recovery_catches_up_with_the_counter_that_a_copy_used(phone: Phone, server: Server, folder: Path) -> None:
    """Otherwise the first registration after it would look like that of a restored vault."""
    dealt = with_waiting_key(phone, server)
    thief = phone.clone(folder / "thief", server)
    for _ in range(3):
        with pytest.raises(NoMatch):
            thief.device.create(creation_options("eve"), ORIGIN, STRANGER)
    thief.crash()
    accusation = crafted_login(phone, ot_index=9, sign_count=9, bent_column=0)
    assert server.serve(accusation).code == "quarantined"

    phone.device.recover(server.lift(phone.id))

    (waiting,) = phone.state.provisioned
    assert waiting.sign_count == 3
    assert phone.create("grace") == dealt.key_id()


def test_a_quarantined_enrolment_imports_nothing(phone: Phone, server: Server) -> None:
    dealt = dealt_to(phone, server)
    assert server.serve(crafted_login(phone, ot_index=9, sign_count=9, bent_column=0)).code == "quarantined"
    before = vault_bytes(phone)

    with pytest.raises(TandemError) as fault:
        phone.device.import_share(dealt.device_file())

    assert fault.value.code == "not_active" and vault_bytes(phone) == before


def test_a_server_that_takes_no_more_proofs_is_waited_for(phone: Phone, server: Server) -> None:
    dealt = dealt_to(phone, server)
    before = vault_bytes(phone)
    phone.network.plan(PAIR, lambda network, request: answer_to(Refused("throttled", retry_after_s=30)))

    with pytest.raises(TandemError) as fault:
        phone.device.import_share(dealt.device_file())

    assert fault.value.code == "locked_out" and vault_bytes(phone) == before


def with_policy(server: Server, **changes: object) -> ServiceContext:
    return replace(server.ctx, policy=replace(server.ctx.policy, **changes))  # type: ignore[arg-type]
