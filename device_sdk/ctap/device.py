"""`TandemCtapDevice`: an opened `Device` as an authenticator that any CTAP2 client of python-fido2 can use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from fido2 import cbor
from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.hid import CAPABILITY, CTAPHID

from device_sdk.ctap.client_pin import client_pin
from device_sdk.ctap.credential_management import credential_management
from device_sdk.ctap.faults import status_of
from device_sdk.ctap.get_assertion import get_assertion, get_next_assertion
from device_sdk.ctap.get_info import MAX_MESSAGE_BYTES, get_info
from device_sdk.ctap.make_credential import make_credential
from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.reset import reset
from device_sdk.ctap.selection import selection
from device_sdk.ctap.session import Answer, Request, Session
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.under_way import UnderWay
from device_sdk.ctap.user import User
from device_sdk.device import Device
from device_sdk.errors import TandemError
from device_sdk.key_generation import MODULUS_BITS

USER_TIMEOUT_S = 60.0

_WITH_PARAMETERS: Mapping[int, Callable[[Request, Parameters], Answer]] = MappingProxyType(
    {0x01: make_credential, 0x02: get_assertion, 0x06: client_pin, 0x0A: credential_management}
)
_GET_INFO = 0x04
_WITHOUT_PARAMETERS: Mapping[int, Callable[[Request], Answer]] = MappingProxyType(
    {_GET_INFO: get_info, 0x07: reset, 0x08: get_next_assertion, 0x0B: selection}
)


class TandemCtapDevice(CtapDevice):
    """CTAP 2.1 commands over one opened `Device`, which stays the caller's to close.

    Whoever may call it is the client: it hashed the client data, and it alone knows the origin. No answer holds a
    signature that a match of that very request did not make.
    """

    def __init__(
        self,
        device: Device,
        user: User,
        *,
        modulus_bits: int = 2048,
        user_timeout_s: float = USER_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """modulus_bits: of new keys, 2048, 3072 or 4096. user_timeout_s: for one question to the person.

        clock: seconds of any origin; for the lifetimes of tokens and sequences of commands.
        """
        if modulus_bits not in MODULUS_BITS:
            raise ValueError("modulus_bits: one of 2048, 3072, 4096")
        self._session = Session(device.authenticator, user, modulus_bits=modulus_bits, clock=clock)
        self._user_timeout_s = user_timeout_s
        self._one_at_a_time = threading.Lock()
        self._under_way: UnderWay | None = None
        self.last_fault: Exception | None = None
        """What ended the last command but GetInfo, where that was a `TandemError` or a fault of the app's own `User`.

        A status code cannot tell an operator's business from a bad network; `advice` of this can.
        """

    def __repr__(self) -> str:
        return "TandemCtapDevice()"

    @property
    def capabilities(self) -> int:
        return CAPABILITY.CBOR | CAPABILITY.NMSG

    def call(
        self,
        cmd: int,
        data: bytes = b"",
        event: threading.Event | None = None,
        on_keepalive: Callable[[STATUS], None] | None = None,
    ) -> bytes:
        """One CTAP2 command: its byte, then its parameters in canonical CBOR. A status byte, then the answer in CBOR.

        cmd: CTAPHID's number for CBOR; CtapError(INVALID_COMMAND) for any other. event: set it to cancel, which counts
        while the person is asked and until the next request to the server. Whatever else goes wrong is a status. While
        one command is under way, others are told CTAP1_ERR_CHANNEL_BUSY.
        """
        if cmd != CTAPHID.CBOR:
            raise CtapError(CtapError.ERR.INVALID_COMMAND)
        if not self._one_at_a_time.acquire(blocking=False):
            return bytes([Status.CTAP1_ERR_CHANNEL_BUSY])
        under_way = UnderWay(event or threading.Event(), on_keepalive, user_timeout_s=self._user_timeout_s)
        self._under_way = under_way
        try:
            status, answer = self._run(bytes(data), under_way)
        finally:
            if under_way.ended:
                self._session.forget()
            self._under_way = None
            self._one_at_a_time.release()
        return bytes([status]) + (cbor.encode(answer) if answer else b"")

    def close(self) -> None:
        """Cancel the command under way, and forget tokens and captures. The `Device` stays open."""
        under_way = self._under_way
        if under_way is not None:
            under_way.end()  # before the rest is forgotten: either this sees what the command came to, or `call` does
        self._session.forget()

    @classmethod
    def list_devices(cls) -> Iterator[CtapDevice]:
        """None: a vault is opened by its app, and nothing here finds one."""
        return iter(())

    def _run(self, data: bytes, under_way: UnderWay) -> tuple[Status, Answer]:
        if data[:1] != bytes([_GET_INFO]):  # clients ask for it after a failure, to see what else they could try
            self.last_fault = None
        self._session.begin_command()
        try:
            return Status.CTAP2_OK, _dispatched(data, Request(self._session, under_way))
        except CommandRefused as refused:
            self.last_fault = _bare(refused.fault)
            return refused.status, {}
        except Exception as fault:
            self.last_fault = _bare(fault)
            if under_way.cancelled.is_set():
                return Status.CTAP2_ERR_KEEPALIVE_CANCEL, {}
            return status_of(fault) if isinstance(fault, TandemError) else Status.CTAP1_ERR_OTHER, {}


def _dispatched(data: bytes, request: Request) -> Answer:
    if not data:
        raise CommandRefused(Status.CTAP1_ERR_INVALID_LENGTH)
    if len(data) > MAX_MESSAGE_BYTES:
        raise CommandRefused(Status.CTAP2_ERR_REQUEST_TOO_LARGE)
    command, parameters = data[0], data[1:]
    if command in _WITHOUT_PARAMETERS:
        if parameters:
            raise CommandRefused(Status.CTAP1_ERR_INVALID_LENGTH)
        return _WITHOUT_PARAMETERS[command](request)
    if command not in _WITH_PARAMETERS:
        raise CommandRefused(Status.CTAP1_ERR_INVALID_COMMAND)
    return _WITH_PARAMETERS[command](request, Parameters.decode(parameters))


def _bare(fault: Exception | None) -> Exception | None:
    """Without the frames it went through, in which there are captures."""
    if fault is not None:
        fault.__context__ = fault.__cause__ = None
        return fault.with_traceback(None)
    return None
