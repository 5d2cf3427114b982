"""Making or taking a key, splitting it, and sealing both halves."""
