"""Processes that kill themselves: one side runs here until a given durable write, the other in the test.

SIGKILL leaves no chance to tidy up. The two talk bytes over a pipe; a pipe that breaks is a lost connection.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy import Connection as SqlConnection
from state_machine_harness import (
    AGED,
    ENCODER,
    FACE,
    PROFILE,
    SERVER_URL,
    Answer,
    Clock,
    Network,
    Phone,
    Server,
)

from authsvc.key_port.raw_key import RawKeyWrapper
from authsvc.policy import Policy
from authsvc.services.context import SignedRequest
from authsvc.services.kek_rotation import rotate_kek
from authsvc.store.engine import Store
from device_sdk import Device
from device_sdk.errors import TransportError
from device_sdk.vault import file as vault_file
from device_sdk.vault.file import VaultFile
from device_sdk.vault.keys import KeyFile

# Children are forked from a small process without threads that has the imports done.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["authsvc.api.protocol", "authsvc.store.migrate", "device_sdk"])


class Fuse:
    """Kills the process at the `die_at`-th point it passes, counted from 0."""

    def __init__(self, die_at: int) -> None:
        self.left = die_at

    def point(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


# ---- the server in a process of its own ----------------------------------------------------------


def _dying_store(fuse: Fuse) -> type[Store]:
    class DyingStore(Store):
        def write(self) -> contextlib.AbstractContextManager[SqlConnection]:
            return self._burning(super().write())

        def write_enrolment(self) -> contextlib.AbstractContextManager[SqlConnection]:
            return self._burning(super().write_enrolment())

        @contextlib.contextmanager
        def _burning(self, transaction: contextlib.AbstractContextManager[SqlConnection]) -> Iterator[SqlConnection]:
            fuse.point()  # nothing begun
            with transaction as connection:
                yield connection
                fuse.point()  # all written, nothing committed
            fuse.point()  # committed, nobody told

    return DyingStore


def serve_until_killed(pipe: Connection, folder: str, now: float, die_at: int, use: Policy | None) -> None:
    """The child's main: ("serve", request) or ("lift", enrolment id) in, the result out."""
    server = Server(Path(folder), Clock(now), use, make_store=_dying_store(Fuse(die_at)))
    while True:
        try:
            word, argument = pipe.recv()
        except EOFError:
            return
        pipe.send({"serve": server.serve, "lift": server.lift}[word](argument))


def rotate_until_killed(folder: str, now: float, keks: list[bytes], die_at: int) -> None:
    """The child's main: `rotate-kek` to the first of the keys, one row a batch."""
    wrappers = [RawKeyWrapper(kek) for kek in keks]
    server = Server(Path(folder), Clock(now), keks=wrappers)
    server.ctx.store.__class__ = _dying_store(Fuse(die_at))  # from here on: starting writes nothing
    rotate_kek(server.ctx, batch=1)


def run_rotation(folder: Path, clock: Clock, keks: list[bytes], die_at: int) -> bool:
    """Whether it was killed at its point."""
    process = PROCESSES.Process(target=rotate_until_killed, args=(str(folder), clock(), keks, die_at), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


class RemoteServer:
    """The test's end of the pipe. Calls raise TransportError from the moment the server is dead."""

    def __init__(self, folder: Path, clock: Clock, die_at: int, use: Policy | None = None) -> None:
        self._pipe, theirs = PROCESSES.Pipe()
        self._process = PROCESSES.Process(
            target=serve_until_killed, args=(theirs, str(folder), clock(), die_at, use), daemon=True
        )
        self._process.start()
        theirs.close()

    def serve(self, request: SignedRequest) -> Answer:
        answer: Answer = self._ask("serve", request)
        return answer

    def lift(self, enrolment_id: bytes) -> str:
        code: str = self._ask("lift", enrolment_id)
        return code

    def _ask(self, word: str, argument: object) -> Any:
        try:
            self._pipe.send((word, argument))
            return self._pipe.recv()
        except (EOFError, OSError):
            raise TransportError from None

    def end(self) -> bool:
        """Stop it; whether it had been killed at its point."""
        self._pipe.close()
        self._process.join(30)
        return self._process.exitcode == -signal.SIGKILL


# ---- the device in a process of its own ----------------------------------------------------------


def _fuse_vault(fuse: Fuse) -> None:
    """Points: before a vault write, when the new file is on disk under its temporary name, and after the rename."""
    write, force = VaultFile.write, vault_file._force_to_disk

    def dying_write(self: VaultFile, payload: bytes) -> None:
        fuse.point()
        write(self, payload)

    def dying_force(descriptor: int) -> None:
        force(descriptor)
        fuse.point()

    VaultFile.write = dying_write  # type: ignore[method-assign]
    vault_file._force_to_disk = dying_force


class _PipedServer:
    """What a `Network` needs of a server, at the other end of the pipe."""

    def __init__(self, pipe: Connection, now: float) -> None:
        self._pipe, self.clock = pipe, Clock(now)

    def serve(self, request: SignedRequest) -> Answer:
        self._pipe.send(("serve", request))
        answer: Answer = self._pipe.recv()
        return answer

    def profile_document(self, name: str) -> bytes:
        self._pipe.send(("profile", name))
        document: bytes = self._pipe.recv()
        return document


def device_until_killed(pipe: Connection, folder: str, now: float, die_at: int, task: str, argument: str) -> None:
    """The child's main: one task of a phone; ("done", None) when it lived to the end."""
    server: Any = _PipedServer(pipe, now)
    _fuse_vault(Fuse(die_at))
    if task == "enrol":
        enrol(Path(folder), server, argument)
    else:
        phone = Phone(Path(folder), server)
        if task == "create":
            phone.create(argument)
        elif task == "recover":
            phone.device.recover(argument)
        elif task == "rotate":
            phone.device.rotate_template(argument, AGED)
        elif task == "add":
            phone.grow()
        elif task == "recipient":
            phone.device.recipient(renew=argument == "renew")
        elif task == "import":
            phone.device.import_share(argument)
        else:
            phone.get()
            phone.get()  # carries the confirmation of the first
        phone.confirm()
    pipe.send(("done", None))


def enrol(folder: Path, server: Server, code: str, face: Any = FACE) -> None:
    """Through the public call, which makes the vault."""
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=code,
        captures=[face] * 3,
        vault=folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=Network(server.serve, server.clock, server.profile_document),
    ).close()


def run_device(
    server: Server, folder: Path, die_at: int, task: str, argument: str = ""
) -> tuple[bool, list[SignedRequest]]:
    """(whether it was killed, what it had sent). The server answers from the test's process."""
    pipe, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(
        target=device_until_killed, args=(theirs, str(folder), server.clock(), die_at, task, argument), daemon=True
    )
    process.start()
    theirs.close()
    sent: list[SignedRequest] = []
    done = False
    with contextlib.suppress(EOFError, OSError):
        while not done:
            word, content = pipe.recv()
            if word == "serve":
                sent.append(content)
                pipe.send(server.serve(content))
            elif word == "profile":
                pipe.send(server.profile_document(content))
            else:
                done = True
    process.join(30)
    assert process.exitcode == (0 if done else -signal.SIGKILL)
    return not done, sent
