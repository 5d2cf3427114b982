"""Provisioned keys: ceremony and expiry of a credential, this server's recipients, the ceremonies it has imported."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and tables; credentials that exist belong to no ceremony and do not expire."""
    op.add_column("credentials", sa.Column("ceremony_id", sa.LargeBinary(16)))
    op.add_column("credentials", sa.Column("not_after", sa.BigInteger))
    op.create_index("ix_credentials_ceremony_id", "credentials", ["ceremony_id"])
    op.create_table(
        "recipients",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("suite", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("retired_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_recipients"),
    )
    op.create_table(
        "ceremonies",
        sa.Column("ceremony_id", sa.LargeBinary(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("manifest_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("signing_key", sa.LargeBinary(32), nullable=False),
        sa.Column("imported_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("ceremony_id", name="pk_ceremonies"),
    )


def downgrade() -> None:
    """Remove waiting keys, recipients and ceremonies. Keys in use stay, without their expiry.

    The older code would take a waiting row for an unknown status, and it never looks at an expiry: what has expired by
    now is revoked here, so that going back brings no key to life.
    """
    op.execute("DELETE FROM credentials WHERE status IN ('provisioned', 'paired')")
    op.get_bind().execute(
        sa.text("UPDATE credentials SET status = 'revoked', sealed_share = NULL WHERE not_after < :now"),
        {"now": time.time()},
    )
    op.drop_table("ceremonies")
    op.drop_table("recipients")
    op.drop_index("ix_credentials_ceremony_id", "credentials")
    op.drop_column("credentials", "not_after")
    op.drop_column("credentials", "ceremony_id")
