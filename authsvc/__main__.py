"""`python -m authsvc`."""

from __future__ import annotations

from .cli import main

# A worker process imports this module too.
if __name__ == "__main__":
    main()
