"""`python -m device_sdk`."""

from __future__ import annotations

from .cli import main

main()
