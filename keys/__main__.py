"""`python -m keys` is `tandem-keys`."""

from __future__ import annotations

from keys.cli import main

# Worker processes import this module again under another name, and must not run the command then.
if __name__ == "__main__":
    main()
