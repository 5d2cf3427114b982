"""Provisioned keys: ceremony and expiry of a credential, this server's recipients, the ceremonies it has imported."""

from __future__ import annotations

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
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("ceremony_id", name="pk_ceremonies"),
    )


def downgrade() -> None:
    """Remove waiting keys, recipients and ceremonies. Dealt keys in use stay if the older code can treat them rightly.

    It would take a waiting row for an unknown status, and a key with another exponent than 65537 for a broken one. It
    never looks at an expiry, and it deletes a provisional row that was left lying. So what has an end, another exponent
    or no confirmed signature is revoked: going back makes no key live longer than it was dealt for.
    """
    op.execute("DELETE FROM credentials WHERE status IN ('provisioned', 'paired')")
    op.execute(
        "UPDATE credentials SET status = 'revoked', sealed_share = NULL WHERE ceremony_id IS NOT NULL"
        " AND (status = 'provisional' OR not_after IS NOT NULL OR exponent <> 65537)"
    )
    op.drop_table("ceremonies")
    op.drop_table("recipients")
    op.drop_index("ix_credentials_ceremony_id", "credentials")
    op.drop_column("credentials", "not_after")
    op.drop_column("credentials", "ceremony_id")
