"""The server's recipients: who may seal halves to it, and what becomes of the private keys."""

from __future__ import annotations

import pickle
import sqlite3

import pytest
from authsvc_dealer import Clock, deal, device_recipient, enrol, events, everything, number_like_a_key

from authsvc.errors import Refused
from authsvc.sealing import SealingError
from authsvc.services import recipients
from authsvc.services.context import ServiceContext
from authsvc.services.provisioning_refusals import ProvisioningRefused
from authsvc.services.secrets_at_rest import open_recipient_key
from authsvc.store.recipients import RecipientRow, list_recipients
from mpc.errors import DecodeError
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.recipient import Recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.share_package import Role

PASSPHRASE = "correct horse battery"
ALICE = b"a" * 16


def rows(ctx: ServiceContext) -> list[RecipientRow]:
    with ctx.store.read() as conn:
        return list_recipients(conn)


@pytest.mark.parametrize("suite", list(HpkeSuite))
def test_the_file_names_this_server_and_its_suite(provisioning: ServiceContext, suite: HpkeSuite) -> None:
    own = recipients.create(provisioning, suite=suite, name="auth, rack 7")

    read = Recipient.decode(own.recipient.document)
    assert (read.role, read.server_id, read.name) == (Role.SERVER, "auth.example", "auth, rack 7")
    assert read.public_key.suite is suite and read.enrolment_id is None
    assert recipients.current(provisioning) == own == recipients.current(provisioning, suite)
    assert events(provisioning)[-1] == (
        "recipient_created",
        None,
        {"fingerprint": read.fingerprint, "by": "command line"},
    )


def test_the_newest_that_is_not_retired_is_current(provisioning: ServiceContext, clock: Clock) -> None:
    assert recipients.current(provisioning) is None
    first = recipients.create(provisioning, suite=HpkeSuite.X25519)
    clock.now += 1
    second = recipients.create(provisioning, suite=HpkeSuite.MLKEM768_X25519)

    assert recipients.current(provisioning) == second
    assert recipients.current(provisioning, HpkeSuite.X25519) == first
    recipients.retire(provisioning, second.recipient.fingerprint.lower().replace("-", " "))
    assert recipients.current(provisioning) == first
    assert [own.retired_at for own in recipients.every(provisioning)] == [None, clock.now]


@pytest.mark.parametrize("name", ["", "x" * 101, "two\nlines", " spaces ", "\x1b[31m"])
def test_a_name_that_would_mislead_people_is_refused(provisioning: ServiceContext, name: str) -> None:
    with pytest.raises(Refused) as refused:
        recipients.create(provisioning, suite=HpkeSuite.X25519, name=name)
    assert (refused.value.code, refused.value.extension) == ("malformed", {"field": "name"})
    assert rows(provisioning) == []


@pytest.mark.parametrize("suite", list(HpkeSuite))
def test_the_private_key_is_sealed_to_its_row(provisioning: ServiceContext, suite: HpkeSuite) -> None:
    """Somebody with write access to the database cannot have one recipient's key open another's halves."""
    for _ in range(2):
        recipients.create(provisioning, suite=suite)
    one, other = rows(provisioning)

    key = open_recipient_key(provisioning.data_key(one.id), one)
    assert key.public_key == Recipient.decode(one.document).public_key
    assert key.raw not in (one.sealed_key or b"")
    moved = RecipientRow(one.id, one.suite, one.name, one.document, other.sealed_key, one.created_at)
    with pytest.raises(SealingError):
        open_recipient_key(provisioning.data_key(one.id), moved)


def test_retiring_erases_the_private_key_for_good(provisioning: ServiceContext) -> None:
    own = recipients.create(provisioning, suite=HpkeSuite.X25519)
    sealed = rows(provisioning)[0].sealed_key
    assert sealed is not None

    recipients.retire(provisioning, own.recipient.fingerprint)
    after = everything(provisioning)
    recipients.retire(provisioning, own.recipient.fingerprint)  # again: nothing

    assert everything(provisioning) == after
    assert rows(provisioning)[0].sealed_key is None
    path = str(provisioning.store.engine.url.database)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with open(path, "rb") as file:
        assert sealed not in file.read()
    with pytest.raises(ProvisioningRefused) as refused:
        recipients.export_key(provisioning, own.recipient.fingerprint, PASSPHRASE)
    assert refused.value.reason == "retired_recipient"


def test_an_exported_key_opens_what_was_sealed_to_the_recipient(provisioning: ServiceContext) -> None:
    own = recipients.create(provisioning, suite=HpkeSuite.MLKEM768_X25519)

    file = recipients.export_key(provisioning, own.recipient.fingerprint, PASSPHRASE)

    exported = RecipientKey.unprotect(file, PASSPHRASE)
    assert exported.recipient.document == own.recipient.document
    assert exported.key.open(own.recipient.public_key.seal(b"half", info=b"i"), info=b"i") == b"half"
    assert exported.key.raw not in file
    with pytest.raises(DecodeError):
        RecipientKey.unprotect(file, PASSPHRASE + "!")
    assert events(provisioning)[-1][0] == "recipient_key_exported"


def test_an_export_that_is_refused_leaves_no_event(provisioning: ServiceContext) -> None:
    own = recipients.create(provisioning, suite=HpkeSuite.X25519)
    stranger = device_recipient(ALICE)[1]
    before = everything(provisioning)

    for fingerprint, passphrase, reason in (
        (own.recipient.fingerprint, "too short", "weak_passphrase"),
        (stranger.fingerprint, PASSPHRASE, "unknown_recipient"),
    ):
        with pytest.raises(ProvisioningRefused) as refused:
            recipients.export_key(provisioning, fingerprint, passphrase)
        assert refused.value.reason == reason and passphrase not in str(refused.value)
    with pytest.raises(Refused):
        recipients.export_key(provisioning, "no fingerprint", PASSPHRASE)
    assert everything(provisioning) == before


def test_an_older_recipient_still_opens_until_it_is_retired(provisioning: ServiceContext, clock: Clock) -> None:
    enrol(provisioning, ALICE)
    phone = device_recipient(ALICE)[1]
    older = recipients.create(provisioning, suite=HpkeSuite.X25519)
    clock.now += 1
    recipients.create(provisioning, suite=HpkeSuite.MLKEM768_X25519)
    dealt = [deal(older.recipient, lambda _: phone, [number_like_a_key()]) for _ in range(2)]

    assert dealt[0].import_into(provisioning).new == dealt[0].key_ids
    recipients.retire(provisioning, older.recipient.fingerprint)
    with pytest.raises(ProvisioningRefused) as refused:
        dealt[1].import_into(provisioning)
    assert refused.value.reason == "retired_recipient"


def test_no_secret_shows_in_a_repr_or_a_pickle(provisioning: ServiceContext) -> None:
    recipients.create(provisioning, suite=HpkeSuite.X25519)
    row = rows(provisioning)[0]
    with provisioning.store.read() as conn:
        opening = recipients.opening_key(provisioning, conn, row)

    assert opening.key.raw.hex() not in repr(opening) and repr(opening.key.raw) not in repr(opening)
    assert "sealed_key" not in repr(row)
    with pytest.raises(TypeError):
        pickle.dumps(opening)
