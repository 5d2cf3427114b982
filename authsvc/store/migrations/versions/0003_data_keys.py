"""A data key for each owner of sealed columns, wrapped under a key-encryption key (KEK), and what became of each KEK.

Up: the tables alone. Revision 0002 derived data keys from the KEK, which no migration knows; `authsvc.services.
kek_adoption` wraps those derived keys at the first start, so that no sealed column changes.

Down: the other way round, but by now the owners have random keys, so every sealed column is opened and sealed again
under the key that revision 0002 derives.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

from authsvc.key_port.port import KeyUnavailable
from authsvc.sealing import SERVER_OWNER, DataKey, SealingError
from authsvc.store.migrate import DowngradeRefused, OldKeys

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# (column, its table's key, SELECT of key, owner, context as numbers or bytes, sealed value)
_SEALED = (
    ("enrolments", "sealed_base_ot", ("id",), "id, id, base_ot_id", ""),
    ("enrolments", "sealed_pending_base_ot", ("id",), "id, id, pending_base_ot_id", ""),
    ("enrolments", "sealed_template", ("id",), "id, id, epoch", ""),
    ("credentials", "sealed_share", ("id",), "id, enrolment_id, id", ""),
    ("recipients", "sealed_key", ("id",), "id, id, id", ""),
    (
        "logins",
        "sealed_rho",
        ("enrolment_id", "ot_index"),
        "logins.enrolment_id, ot_index, logins.enrolment_id, ot_index, epoch",
        " JOIN enrolments ON enrolments.id = logins.enrolment_id",
    ),
)
_SERVER_VALUES = ("kek_check", "attestation_authority")
"""Rows of `server_state` under the server's own key. Those of the audit log went with revision 0004."""


def upgrade() -> None:
    """Add both tables, empty."""
    op.create_table(
        "data_keys",
        sa.Column("owner_id", sa.LargeBinary(32), nullable=False),
        sa.Column("kek_id", sa.LargeBinary(16), nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name="pk_data_keys"),
    )
    op.create_index("ix_data_keys_kek_id", "data_keys", ["kek_id"])
    op.create_table(
        "keks",
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keks"),
    )


def downgrade() -> None:
    """Seal everything again as revision 0002 did, then drop the tables. Raises DowngradeRefused.

    Which KEKs are retired is forgotten. What an erased owner left is not sealed again: nobody can open it.
    """
    conn = op.get_bind()
    with_status = "SELECT owner_id, kek_id, wrapped, status FROM data_keys LEFT JOIN keks ON keks.id = data_keys.kek_id"
    rows = conn.execute(sa.text(with_status)).all()
    if rows:
        keys: OldKeys | None = context.config.attributes.get("old_keys")
        if keys is None:
            raise DowngradeRefused("going back below revision 0003 needs the key-encryption key")
        try:
            pairs = {bytes(row[0]): _pair(keys, *row) for row in rows}
            _seal_again(conn, pairs)
        except SealingError as error:
            raise DowngradeRefused(f"a sealed value does not open, so it cannot be sealed again: {error}") from None
        except KeyUnavailable as error:
            raise DowngradeRefused(str(error)) from None
    op.drop_table("keks")
    op.drop_index("ix_data_keys_kek_id", "data_keys")
    op.drop_table("data_keys")


def _pair(keys: OldKeys, owner_id: bytes, kek_id: bytes, wrapped: bytes, status: str | None) -> tuple[DataKey, DataKey]:
    old = keys.revision_0002_key(bytes(owner_id))
    if old is None:
        raise DowngradeRefused(
            "revision 0002 knows a key-encryption key in a file or setting only; rotate to one of those first"
            " (authsvc rotate-kek)"
        )
    if status not in ("current", "leaving"):
        raise SealingError("a data key is under a key-encryption key that is retired or unknown")
    return keys.data_key(bytes(owner_id), bytes(kek_id), bytes(wrapped)), old


def _seal_again(conn: sa.Connection, pairs: dict[bytes, tuple[DataKey, DataKey]]) -> None:
    for table, column, key, wanted, join in _SEALED:
        found = conn.execute(sa.text(f"SELECT {wanted}, {column} FROM {table}{join} WHERE {column} IS NOT NULL")).all()  # noqa: S608
        where = " AND ".join(f"{name} = :{name}" for name in key)
        update = sa.text(f"UPDATE {table} SET {column} = :sealed WHERE {where}")  # noqa: S608
        for row in found:
            identity, (owner, *bound), sealed = row[: len(key)], row[len(key) : -1], bytes(row[-1])
            pair = pairs.get(bytes(owner))
            if pair is None:
                continue
            context_ = b"".join(
                part.to_bytes(8, "big") if isinstance(part, int) else bytes(part or b"") for part in bound
            )
            values = dict(zip(key, identity, strict=True))
            conn.execute(update, {**values, "sealed": _again(pair, column, context_, sealed)})
    load = sa.text("SELECT value FROM server_state WHERE name = :name")
    update = sa.text("UPDATE server_state SET value = :sealed WHERE name = :name")
    for name in _SERVER_VALUES:
        value = conn.execute(load, {"name": name}).scalar()
        if value is not None and SERVER_OWNER in pairs:
            conn.execute(update, {"name": name, "sealed": _again(pairs[SERVER_OWNER], name, b"", bytes(value))})


def _again(pair: tuple[DataKey, DataKey], column: str, context_: bytes, sealed: bytes) -> bytes:
    new, old = pair
    return old.seal(column, context_, new.open(column, context_, sealed))
