"""The people around a dealer: holders with their keys, the command as they run it, and what its files hold."""

from __future__ import annotations

import base64
import math
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner, Result

from keys.commands import app
from keys.refusal import Refusal
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.ceremony import CeremonyError
from mpc.provisioning.manifest import DealtKey, Manifest, SignedManifest, share_path
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.share_package import Role, SharePackage, open_share

RP_ID = "login.example.com"
PASSPHRASE = "a passphrase of the custodian"
SERVER_ID = "tandem"


@dataclass(frozen=True)
class Holder:
    """A recipient with its private key, and its file."""

    key: HpkePrivateKey
    recipient: Recipient
    file: Path

    def key_file(self) -> Path:
        """The private key under PASSPHRASE."""
        path = self.file.with_suffix(".key")
        path.write_bytes(RecipientKey(self.recipient, self.key).protect(SystemRng(), PASSPHRASE))
        return path

    def opens(self, folder: Path, dealt: DealtKey) -> SharePackage:
        """This holder's half of a key, opened as the holder's own program does it."""
        return open_share(
            (folder / share_path(self.recipient, dealt.key.key_id)).read_bytes(),
            self.key,
            recipient_id=self.recipient.id,
            expected_role=self.recipient.role,
            expected_key_id=dealt.key.key_id,
        )


def holder(
    file: Path,
    role: Role,
    *,
    server_id: str = SERVER_ID,
    enrolment_id: bytes | None = None,
    suite: HpkeSuite = HpkeSuite.X25519,
    name: str | None = None,
) -> Holder:
    """A fresh recipient, its file written."""
    if role is Role.DEVICE and enrolment_id is None:
        enrolment_id = secrets.token_bytes(16)
    key, recipient = new_recipient(
        role=role,
        name=name or f"{role} {file.stem}",
        server_id=server_id,
        enrolment_id=enrolment_id,
        suite=suite,
        now=int(time.time()),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(recipient.document)
    return Holder(key, recipient, file)


@dataclass(frozen=True)
class Room:
    """A server and some devices, and where ceremonies go."""

    folder: Path
    server: Holder
    devices: tuple[Holder, ...]

    @classmethod
    def furnish(cls, folder: Path, *, devices: Sequence[str] = ("alice",), suite: HpkeSuite = HpkeSuite.X25519) -> Room:
        server = holder(folder / "server.json", Role.SERVER, suite=suite)
        holders = [holder(folder / "devices" / f"{name}.json", Role.DEVICE, suite=suite) for name in devices]
        return cls(folder, server, tuple(holders))

    @property
    def out(self) -> Path:
        return self.folder / "ceremony"

    def options(self, out: Path | None = None, device: Path | None = None) -> list[str]:
        """What `generate` and `import` need where nobody can be asked, and nobody has compared."""
        return ["--not-compared", *self.asking(out, device)]

    def asking(self, out: Path | None = None, device: Path | None = None) -> list[str]:
        """The same without a word about fingerprints."""
        return [
            *("--server", str(self.server.file), "--device", str(device or self.folder / "devices")),
            *("--rp-id", RP_ID, "--out", str(out or self.out)),
        ]

    def expected(self, *, by_name: bool = False) -> list[str]:
        """What the operator types whose holders have read their fingerprints out."""
        devices = [(f"{who.file.stem}=" if by_name else "") + who.recipient.fingerprint for who in self.devices]
        return [part for text in (self.server.recipient.fingerprint, *devices) for part in ("--expect", text)]

    def passphrase_file(self, passphrase: str = PASSPHRASE) -> Path:
        path = self.folder / "passphrase"
        path.write_text(passphrase + "\n", encoding="utf-8")
        return path


def run(*arguments: str) -> Result:
    """The command in this process, with nobody at the terminal."""
    return CliRunner().invoke(app, arguments, prog_name="tandem-keys")


def succeeds(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: str) -> tuple[str, str]:
    """(reason, the one sentence) of a command that must end with exit code 1."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert not result.stdout, "a refused command has no result"
    error: BaseException | None = result.exception
    while error is not None and not isinstance(error, Refusal | CeremonyError):
        error = error.__context__
    assert error is not None, result.output
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith("tandem-keys: "), result.stderr
    return error.reason, last_line.removeprefix("tandem-keys: ")


def command(*arguments: str) -> list[str]:
    """The command as a process of its own."""
    return [sys.executable, "-m", "keys", *arguments]


def run_process(*arguments: str, **extra: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=300, **extra
    )


def manifest_of(folder: Path) -> Manifest:
    return SignedManifest.decode((folder / "manifest.json").read_bytes()).manifest


def signer_of(folder: Path) -> str:
    """What the witnesses of the ceremony wrote down."""
    return SignedManifest.decode((folder / "manifest.json").read_bytes()).fingerprint


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def remains_of(out: Path) -> list[str]:
    """What there is of a ceremony's folder: itself, or a half-made one."""
    return sorted(entry.name for entry in out.parent.iterdir() if out.name in entry.name)


@dataclass(frozen=True)
class Secrets:
    """Everything about a key that nobody may see."""

    values: dict[str, int]

    @classmethod
    def of_halves(cls, device: SharePackage, server: SharePackage) -> Secrets:
        """As two holders who conspire could compute them."""
        d = device.share.value + server.share.value
        p, q = factors(device.key.modulus, device.key.exponent, d)
        return cls.of_key(p, q, d) | {"d1": abs(device.share.value), "d2": server.share.value}

    @classmethod
    def of_key(cls, p: int, q: int, d: int) -> Secrets:
        crt = {"dp": d % (p - 1), "dq": d % (q - 1), "p*inverse": pow(q, -1, p), "q*inverse": pow(p, -1, q)}
        return cls({"d": d, "p": p, "q": q, **crt, "reduced d": d % math.lcm(p - 1, q - 1)})

    def __or__(self, more: dict[str, int]) -> Secrets:
        return Secrets({**self.values, **more})

    def found_in(self, data: bytes) -> list[str]:
        """Which of them are in the data, in whatever usual form."""
        folded = data.lower()
        return [
            f"{name} as {form}"
            for name, value in self.values.items()
            for form, text in _forms(value)
            if (text.lower() in folded if form == "hex" else text in data)
        ]


def _forms(value: int) -> Iterator[tuple[str, bytes]]:
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    yield "big-endian", raw
    yield "little-endian", raw[::-1]
    yield "decimal", str(value).encode()
    yield "hex", raw.hex().encode()
    for shift in range(3):
        # Within a longer text, base64 shows the same bytes in three ways: the middle of each is enough.
        inner = raw[(3 - shift) % 3 :]
        inner = inner[: len(inner) // 3 * 3]
        yield f"base64 {shift}", base64.b64encode(inner)
        yield f"base64url {shift}", base64.urlsafe_b64encode(inner)


def factors(modulus: int, exponent: int, private_exponent: int) -> tuple[int, int]:
    """p > q of N = p·q, from d (Miller's method)."""
    odd = exponent * private_exponent - 1
    halvings = 0
    while odd % 2 == 0:
        odd //= 2
        halvings += 1
    while True:
        root = pow(secrets.randbelow(modulus - 3) + 2, odd, modulus)
        for _ in range(halvings):
            square = root * root % modulus
            if square == 1 and root not in (1, modulus - 1):
                p = math.gcd(root - 1, modulus)
                return max(p, modulus // p), min(p, modulus // p)
            root = square


def checkout() -> Path:
    return Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout()), "NO_COLOR": "1"}
