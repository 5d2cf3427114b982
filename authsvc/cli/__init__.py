"""The command line of the server."""

from __future__ import annotations

from .commands import app, main

__all__ = ["app", "main"]
