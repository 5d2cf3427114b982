"""SoftHSM 2 for tests: tokens in a folder of the test run's own. SOFTHSM2_MODULE names the library elsewhere."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class Token:
    module: Path
    label: str
    pin: str


def module() -> Path | None:
    named = os.environ.get("SOFTHSM2_MODULE")
    return next((Path(place) for place in ([named] if named else _PLACES) if Path(place).exists()), None)


@lru_cache
def softhsm_is_there() -> bool:
    """The library, its tool, and the Python package."""
    found = module() is not None and shutil.which("softhsm2-util") is not None
    return found and importlib.util.find_spec("pkcs11") is not None


def new_token(folder: Path) -> Token:
    """A fresh token. The library reads its configuration once in a process, so all tokens lie in the first folder."""
    if "SOFTHSM2_CONF" not in os.environ:
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    label, pin = f"test-{secrets.token_hex(4)}", f"pin-{secrets.token_hex(8)}"
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = module()
    assert found is not None
    return Token(found.resolve(), label, pin)
