"""CTAP status codes (CTAP 2.1, section 8.2), and the way to end a command with one."""

from __future__ import annotations

from enum import IntEnum, unique

from device_sdk.errors import TandemError


@unique
class Status(IntEnum):
    """The first byte of every answer. Only those that this authenticator gives."""

    CTAP2_OK = 0x00
    CTAP1_ERR_INVALID_COMMAND = 0x01
    CTAP1_ERR_INVALID_PARAMETER = 0x02
    CTAP1_ERR_INVALID_LENGTH = 0x03
    CTAP1_ERR_CHANNEL_BUSY = 0x06
    CTAP2_ERR_CBOR_UNEXPECTED_TYPE = 0x11
    CTAP2_ERR_INVALID_CBOR = 0x12
    CTAP2_ERR_MISSING_PARAMETER = 0x14
    CTAP2_ERR_LIMIT_EXCEEDED = 0x15
    CTAP2_ERR_CREDENTIAL_EXCLUDED = 0x19
    CTAP2_ERR_UNSUPPORTED_ALGORITHM = 0x26
    CTAP2_ERR_OPERATION_DENIED = 0x27
    CTAP2_ERR_KEY_STORE_FULL = 0x28
    CTAP2_ERR_UNSUPPORTED_OPTION = 0x2B
    CTAP2_ERR_INVALID_OPTION = 0x2C
    CTAP2_ERR_KEEPALIVE_CANCEL = 0x2D
    CTAP2_ERR_NO_CREDENTIALS = 0x2E
    CTAP2_ERR_USER_ACTION_TIMEOUT = 0x2F
    CTAP2_ERR_NOT_ALLOWED = 0x30
    CTAP2_ERR_PIN_INVALID = 0x31
    CTAP2_ERR_PIN_AUTH_INVALID = 0x33
    CTAP2_ERR_PUAT_REQUIRED = 0x36
    CTAP2_ERR_REQUEST_TOO_LARGE = 0x39
    CTAP2_ERR_ACTION_TIMEOUT = 0x3A
    CTAP2_ERR_UV_BLOCKED = 0x3C
    CTAP2_ERR_INVALID_SUBCOMMAND = 0x3E
    CTAP2_ERR_UV_INVALID = 0x3F
    CTAP2_ERR_UNAUTHORIZED_PERMISSION = 0x40
    CTAP1_ERR_OTHER = 0x7F


class CommandRefused(Exception):
    """A command ends with this status and answers nothing else. fault: what the SDK said, where it said something."""

    def __init__(self, status: Status, fault: TandemError | None = None) -> None:
        super().__init__(status.name)
        self.status = status
        self.fault = fault
