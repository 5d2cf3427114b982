"""Rate limits, and how often a one-time code was tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the column; codes that exist have not been tried."""
    op.add_column("codes", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "rate_limits",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("full_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_rate_limits"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_rate_limits_full_at", "rate_limits", ["full_at"])


def downgrade() -> None:
    """Remove both. Everybody's rates are full again, and codes may be tried anew: the older code counts neither."""
    op.drop_index("ix_rate_limits_full_at", "rate_limits")
    op.drop_table("rate_limits")
    op.drop_column("codes", "attempts")
