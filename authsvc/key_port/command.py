"""A KEK in an external key service, reached through a command of the operator's.

The command gets one JSON object on standard input and answers one on standard output, then ends with status 0:

    {"op": "wrap" | "unwrap", "context": BASE64, "data": BASE64}
    {"key_id": TEXT, "data": BASE64}   or, where data cannot be opened with that context,   {"error": "refused"}

It is started anew for each operation, without a shell. Nothing secret is in its arguments, and no setting of this
server's in its environment. key_id: 1 to 200 characters that name the KEK and its version; as long as the settings stay
the same it must not change, since it decides which rows are under which key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Final

from mpc.primitives.hashing import tagged_hash

from .port import KEK_ID_BYTES, KekKind, KeyUnavailable, WrappedKeyRefused, owner_context

MAX_ANSWER_BYTES: Final = 65_536
_SETTINGS_PREFIX = "TANDEM_"
_REAPED_WITHIN_S = 1.0


class CommandKeyWrapper:
    """A `KeyWrapper` that starts the command. KeyUnavailable from the constructor too, which asks for the key's id."""

    __slots__ = ("_argv", "_key_id", "_limit_s")
    kind: KekKind = "command"

    def __init__(self, argv: Sequence[str], limit_s: float) -> None:
        """argv: program, by its absolute path, and arguments. limit_s: how long one operation may take, in seconds."""
        self._argv = tuple(argv)
        self._limit_s = limit_s
        self._key_id: bytes | None = None
        self.wrap(os.urandom(32), owner_context(b"tandem first question"))

    @property
    def key_id(self) -> bytes:
        """From a hash of the id that the command gave first."""
        assert self._key_id is not None
        return self._key_id

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        wrapped = self._ask("wrap", data_key, context)
        if not wrapped or data_key in wrapped:
            raise KeyUnavailable("bad_answer", f"{self._name}: what it answered to wrap is not a wrapped key")
        return wrapped

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        return self._ask("unwrap", wrapped, context)

    def close(self) -> None:
        """Nothing to end."""

    @property
    def _name(self) -> str:
        return f"the command {self._argv[0]}"

    def _ask(self, op: str, data: bytes, context: bytes) -> bytes:
        question = {"op": op, "context": _base64(context), "data": _base64(data)}
        answer = self._parsed(self._run(json.dumps(question).encode("ascii") + b"\n"))
        if answer.get("error") == "refused" and op == "unwrap":
            raise WrappedKeyRefused
        try:
            key_id, found = answer["key_id"], base64.b64decode(answer["data"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise self._bad_answer() from None
        if not isinstance(key_id, str) or not 0 < len(key_id) <= 200 or not key_id.isprintable():
            raise self._bad_answer()
        hashed = tagged_hash("tandem kek id command v1", key_id.encode("utf-8"))[:KEK_ID_BYTES]
        if self._key_id is None:
            self._key_id = hashed
        elif hashed != self._key_id:
            raise KeyUnavailable(
                "other_key",
                f"{self._name}: answers with another key_id than before; name the key's version in its arguments, and"
                " change it by `authsvc rotate-kek`",
            )
        return found

    def _run(self, question: bytes) -> bytes:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS_PREFIX)}
        try:
            process = subprocess.Popen(  # noqa: S603 (the operator's own command, without a shell)
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # it may quote what it was given
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise KeyUnavailable("not_started", f"{self._name}: cannot be started: {error.strerror}") from None
        try:
            answer, _ = process.communicate(question, timeout=self._limit_s)
        except subprocess.TimeoutExpired:
            _end(process)
            raise KeyUnavailable("timeout", f"{self._name}: gave no answer within {self._limit_s:g} s") from None
        if process.returncode != 0:
            raise KeyUnavailable("failed", f"{self._name}: ended with status {process.returncode}")
        return answer

    def _parsed(self, answer: bytes) -> dict[str, Any]:
        try:
            document = json.loads(answer) if len(answer) <= MAX_ANSWER_BYTES else None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._bad_answer()
        return document

    def _bad_answer(self) -> KeyUnavailable:
        return KeyUnavailable("bad_answer", f"{self._name}: its answer is not a JSON object with key_id and data")

    def __repr__(self) -> str:
        return f"CommandKeyWrapper({self._argv[0]!r})"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it with its children. One that left its session may live on with the pipes: nobody reads to their end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # Not for long: a program of another user's could not be killed.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAPED_WITHIN_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
