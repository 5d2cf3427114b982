"""Tandem as a CTAP2 authenticator, for clients that speak CTAP."""

from device_sdk.ctap.device import TandemCtapDevice
from device_sdk.ctap.status import Status
from device_sdk.ctap.user import AccountChooser, Prompt, Purpose, User

__all__ = ["AccountChooser", "Prompt", "Purpose", "Status", "TandemCtapDevice", "User"]
