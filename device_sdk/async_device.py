"""`AsyncDevice`: the same calls for asyncio.

A login computes for milliseconds and waits for one answer; both happen in a worker thread, so the event loop never
stalls. `capture` may be a coroutine function: a camera's prompt is awaited on the loop, before the thread starts.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from device_sdk.ceremony_report import CeremonyReport
from device_sdk.credential_info import CredentialInfo
from device_sdk.device import Capture, ChooseAccount, Device, Options
from device_sdk.history import History
from device_sdk.provisioning import ProvisionedKeyInfo
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.recipient import Recipient


class AsyncDevice:
    """Wraps a `Device`; see there for arguments and faults."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @classmethod
    async def enrol(cls, **arguments: Any) -> AsyncDevice:
        """`Device.enrol`."""
        return cls(await asyncio.to_thread(Device.enrol, **arguments))

    @classmethod
    async def open(cls, *arguments: Any, **keywords: Any) -> AsyncDevice:
        """`Device.open`."""
        return cls(await asyncio.to_thread(Device.open, *arguments, **keywords))

    async def create(
        self, options: Options, origin: str, capture: Capture, *, modulus_bits: int = 2048
    ) -> dict[str, Any]:
        """`Device.create`. An awaitable capture is awaited first, so it is asked for before the options are read."""
        sample = await _awaited(capture)
        return await asyncio.to_thread(self._device.create, options, origin, sample, modulus_bits=modulus_bits)

    async def get(
        self, options: Options, origin: str, capture: Capture, *, choose_account: ChooseAccount | None = None
    ) -> dict[str, Any]:
        """`Device.get`."""
        sample = await _awaited(capture)
        return await asyncio.to_thread(self._device.get, options, origin, sample, choose_account=choose_account)

    def credentials(self) -> list[CredentialInfo]:
        return self._device.credentials()

    def provisioned(self) -> list[ProvisionedKeyInfo]:
        return self._device.provisioned()

    async def recipient(
        self, *, suite: HpkeSuite | str | None = None, name: str | None = None, renew: bool = False
    ) -> Recipient:
        """`Device.recipient`. In a thread, since it may write the vault."""
        return await asyncio.to_thread(self._device.recipient, suite=suite, name=name, renew=renew)

    async def export_recipient_key(self, passphrase: str) -> bytes:
        return await asyncio.to_thread(self._device.export_recipient_key, passphrase)

    async def retire_recipient(self) -> None:
        await asyncio.to_thread(self._device.retire_recipient)

    async def import_share(
        self, source: str | Path | bytes, *, manifest: str | Path | bytes | None = None, ceremony_key: str | None = None
    ) -> ProvisionedKeyInfo:
        """`Device.import_share`."""
        return await asyncio.to_thread(self._device.import_share, source, manifest=manifest, ceremony_key=ceremony_key)

    @property
    def last_ceremony(self) -> CeremonyReport | None:
        return self._device.last_ceremony

    async def delete(self, credential_id: bytes) -> None:
        await asyncio.to_thread(self._device.delete, credential_id)

    async def recover(self, code: str) -> None:
        await asyncio.to_thread(self._device.recover, code)

    async def rotate_template(self, code: str, captures: Sequence[Any]) -> None:
        await asyncio.to_thread(self._device.rotate_template, code, captures)

    async def add_template(self, captures: Sequence[Any], match: Capture, *, code: str | None = None) -> bool:
        """`Device.add_template`. An awaitable capture is awaited first."""
        return await asyncio.to_thread(self._device.add_template, captures, await _awaited(match), code=code)

    async def remove_template(self, position: int, match: Capture) -> bool:
        """`Device.remove_template`. An awaitable capture is awaited first."""
        return await asyncio.to_thread(self._device.remove_template, position, await _awaited(match))

    async def history(self) -> History:
        """`Device.history`."""
        return await asyncio.to_thread(self._device.history)

    async def confirm_now(self, timeout_s: float = 5.0) -> bool:
        return await asyncio.to_thread(self._device.confirm_now, timeout_s)

    async def close(self) -> None:
        await asyncio.to_thread(self._device.close)

    async def __aenter__(self) -> AsyncDevice:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _awaited(capture: Capture) -> Capture:
    if inspect.iscoroutinefunction(capture):
        return await capture()
    return capture
