"""Tandem's device SDK: FIDO logins whose key and template are split between this device and a server."""

from device_sdk.async_device import AsyncDevice
from device_sdk.biometrics import (
    BinaryCode,
    BinaryCodeEncoder,
    EmbeddingEncoder,
    Encoder,
    Sensor,
    SignProjection,
    SimulatedSensor,
)
from device_sdk.credential_info import CredentialInfo
from device_sdk.device import Device, Inspection
from device_sdk.errors import Advice, TandemError, WebAuthnError
from device_sdk.history import History, LoginRecord, RecordedEvent
from device_sdk.provisioning import ProvisionedKeyInfo
from device_sdk.transport import HttpTransport, Transport
from device_sdk.vault import KeyFile, Passphrase, PlatformKey, Vault, VaultKey

__all__ = [
    "Advice",
    "AsyncDevice",
    "BinaryCode",
    "BinaryCodeEncoder",
    "CredentialInfo",
    "Device",
    "EmbeddingEncoder",
    "Encoder",
    "History",
    "HttpTransport",
    "Inspection",
    "KeyFile",
    "LoginRecord",
    "Passphrase",
    "PlatformKey",
    "ProvisionedKeyInfo",
    "RecordedEvent",
    "Sensor",
    "SignProjection",
    "SimulatedSensor",
    "TandemError",
    "Transport",
    "Vault",
    "VaultKey",
    "WebAuthnError",
]
