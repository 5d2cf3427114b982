"""The SDK's faults as status codes. What a status cannot tell stays in `TandemCtapDevice.last_fault`."""

from __future__ import annotations

from device_sdk.ctap.status import Status
from device_sdk.errors import (
    BudgetSpent,
    DeviceRestored,
    EncodingError,
    InvalidState,
    LockedOut,
    MatchMissing,
    NoMatch,
    NotActive,
    NotAllowed,
    ProvisionedKeyRefused,
    ProvisioningRequired,
    Quarantined,
    RelyingPartyNotAllowed,
    ShareExpired,
    TandemError,
    VaultFull,
)

BLOCKING = (LockedOut, BudgetSpent, Quarantined, NotActive, DeviceRestored)
"""No capture can be matched: for a while, or until an operator has helped."""

_STATUS: tuple[tuple[tuple[type[TandemError], ...], Status], ...] = (
    (BLOCKING, Status.CTAP2_ERR_UV_BLOCKED),
    ((NoMatch, EncodingError), Status.CTAP2_ERR_OPERATION_DENIED),
    ((InvalidState,), Status.CTAP2_ERR_CREDENTIAL_EXCLUDED),
    ((VaultFull,), Status.CTAP2_ERR_KEY_STORE_FULL),
    ((NotAllowed,), Status.CTAP2_ERR_ACTION_TIMEOUT),  # below this face it means that the time is up
    (
        (RelyingPartyNotAllowed, ProvisioningRequired, ProvisionedKeyRefused, ShareExpired, MatchMissing),
        Status.CTAP2_ERR_NOT_ALLOWED,
    ),
)


def status_of(fault: TandemError) -> Status:
    """CTAP1_ERR_OTHER for what CTAP has no word for, such as a server that cannot be reached."""
    return next((status for kinds, status in _STATUS if isinstance(fault, kinds)), Status.CTAP1_ERR_OTHER)
