"""How well the published profiles tell people apart, and what attackers who choose their probe achieve."""
