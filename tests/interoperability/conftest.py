"""The servers and people of the end-to-end tests."""

from __future__ import annotations

import sys
from pathlib import Path

_END_TO_END = str(Path(__file__).parent.parent / "end_to_end")
if _END_TO_END not in sys.path:
    sys.path.append(_END_TO_END)
