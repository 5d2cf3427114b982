"""On what the figures were measured. Nothing that names the machine or its user."""

from __future__ import annotations

import os
import platform
import ssl
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gmpy2

_LIBRARIES = ("cryptography", "fastapi", "httpcore", "numpy", "sqlalchemy", "starlette", "uvicorn", "uvloop")


def description() -> dict[str, Any]:
    """CPU model, cores, load at the end, Python and library versions."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gmp": gmpy2.mp_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
