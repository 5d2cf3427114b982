"""This server's recipients: the keys to which ceremonies seal its halves. Their private keys stay here, sealed.

The newest one that is not retired is current; older ones still open what was sealed to them until they are retired.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.recipient import MAX_NAME_BYTES, Recipient, name_field, new_recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.provisioning.signed_document import normal_fingerprint
from mpc.threshold_rsa.share_package import Role

from ..errors import Refused
from ..store.data_keys import delete_data_key
from ..store.event_names import EventName
from ..store.events import append_event
from ..store.recipients import RecipientRow, insert_recipient, list_recipients, load_recipient, retire_recipient
from .context import COMMAND_LINE, ServiceContext
from .provisioning_refusals import ProvisioningRefused
from .secrets_at_rest import open_recipient_key, seal_recipient_key


@dataclass(frozen=True, slots=True)
class OwnRecipient:
    """One of this server's recipients. retired_at: Unix seconds, or None while it can still open halves."""

    recipient: Recipient
    retired_at: float | None


def create(ctx: ServiceContext, *, suite: HpkeSuite, name: str | None = None) -> OwnRecipient:
    """A fresh recipient, current from now on. The older ones stay until they are retired.

    name: 1 to 100 bytes of printable text, the server's id if None. Refused("malformed") otherwise, and for a suite
    that this build of the cryptography library does not have.
    """
    name = ctx.policy.server_id[:MAX_NAME_BYTES] if name is None else name
    try:
        if not 0 < len(name_field(name).encode("utf-8")) <= MAX_NAME_BYTES:
            raise Refused("malformed", field="name")
    except (DecodeError, UnicodeEncodeError):
        raise Refused("malformed", field="name") from None
    now = ctx.clock()
    try:
        key, recipient = new_recipient(
            role=Role.SERVER,
            name=name,
            server_id=ctx.policy.server_id,
            enrolment_id=None,
            suite=suite,
            now=int(now),
        )
    except ValueError:
        raise Refused("malformed", field="suite") from None
    with ctx.store.read() as conn:
        kek_id = ctx.keyring.current(conn)
    new = ctx.keyring.new_key(ctx.rng, recipient.id, kek_id)
    sealed = seal_recipient_key(new.key, key)
    with ctx.store.write() as conn:
        ctx.keyring.insert(conn, new)
        insert_recipient(conn, RecipientRow(recipient.id, suite.value, name, recipient.document, sealed, now))
        _tell(ctx, conn, "recipient_created", recipient)
    return OwnRecipient(recipient, None)


def every(ctx: ServiceContext) -> list[OwnRecipient]:
    """All of them, oldest first, the retired ones too."""
    with ctx.store.read() as conn:
        return [_own(row) for row in list_recipients(conn)]


def current(ctx: ServiceContext, suite: HpkeSuite | None = None) -> OwnRecipient | None:
    """The newest one that is not retired (and of that suite, unless None), or None."""
    for own in reversed(every(ctx)):
        if own.retired_at is None and suite in (None, own.recipient.public_key.suite):
            return own
    return None


def retire(ctx: ServiceContext, fingerprint: str) -> None:
    """Erase the private key: what is sealed to it and not imported can be opened by nobody any more.

    Does nothing to one that is retired already. ProvisioningRefused("unknown_recipient").
    """
    with ctx.store.write() as conn:
        row = _by_fingerprint(conn, fingerprint)
        if row.retired_at is None:
            retire_recipient(conn, row.id, ctx.clock())
            delete_data_key(conn, row.id)
            _tell(ctx, conn, "recipient_retired", _own(row).recipient)
    ctx.keyring.forget(row.id)


def export_key(ctx: ServiceContext, fingerprint: str, passphrase: str) -> bytes:
    """The private key as a file under a passphrase, for `tandem-keys rewrap`; leaves an event.

    ProvisioningRefused: "unknown_recipient", "retired_recipient", "weak_passphrase".
    """
    with ctx.store.read() as conn:
        own = opening_key(ctx, conn, _by_fingerprint(conn, fingerprint))
    # Deriving from the passphrase takes half a second, during which no login should wait for the writer's lock.
    try:
        protected = own.protect(ctx.rng, passphrase)
    except ValueError as error:  # its text is about the passphrase and does not hold it
        raise ProvisioningRefused("weak_passphrase", str(error)) from None
    with ctx.store.write() as conn:
        if _by_fingerprint(conn, fingerprint).retired_at is not None:
            raise _retired(own.recipient)
        _tell(ctx, conn, "recipient_key_exported", own.recipient)
    return protected


def opening_key(ctx: ServiceContext, conn: Connection, row: RecipientRow) -> RecipientKey:
    """What opens the halves sealed to it. ProvisioningRefused("retired_recipient")."""
    recipient = _own(row).recipient
    if row.retired_at is not None:
        raise _retired(recipient)
    return RecipientKey(recipient, open_recipient_key(ctx.keyring.key_of(conn, row.id), row))


def opening_key_for(ctx: ServiceContext, conn: Connection, recipient: Recipient) -> RecipientKey:
    """What opens the halves sealed to a recipient that a ceremony names.

    ProvisioningRefused: "unknown_recipient", "retired_recipient".
    """
    row = load_recipient(conn, recipient.id)
    if row is None:
        raise _unknown(recipient.fingerprint)
    return opening_key(ctx, conn, row)


def _by_fingerprint(conn: Connection, text: str) -> RecipientRow:
    try:
        wanted = normal_fingerprint(text)
    except ValueError:
        raise Refused("malformed", field="fingerprint") from None
    for row in list_recipients(conn):
        if _own(row).recipient.fingerprint == wanted:
            return row
    raise _unknown(wanted)


def _own(row: RecipientRow) -> OwnRecipient:
    return OwnRecipient(Recipient.decode(row.document), row.retired_at)


def _unknown(fingerprint: str) -> ProvisioningRefused:
    return ProvisioningRefused(
        "unknown_recipient",
        f"the recipient {fingerprint} is none of this server's; `authsvc recipients` lists them",
    )


def _retired(recipient: Recipient) -> ProvisioningRefused:
    return ProvisioningRefused(
        "retired_recipient",
        f"the recipient {recipient.fingerprint} is retired and its private key erased; deal the keys to"
        " the current one",
    )


def _tell(ctx: ServiceContext, conn: Connection, name: EventName, recipient: Recipient) -> None:
    detail = {"fingerprint": recipient.fingerprint, "by": COMMAND_LINE}  # no other way leads here
    append_event(conn, at=ctx.clock(), name=name, detail=detail)
