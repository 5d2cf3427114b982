"""The device's state in memory and in its vault, changed only together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from device_sdk.vault.port import Vault
from device_sdk.vault.state import DeviceState


class StateStore:
    """One vault, its decoded state, and the locks around both.

    `change` writes durably before the new state is visible to anybody. `in_flight` is held for a whole ceremony:
    one login at a time, since an index serves one login and answers to older requests are discarded.
    """

    def __init__(self, vault: Vault, state: DeviceState) -> None:
        self._vault = vault
        self._state = state
        self._lock = threading.RLock()
        self.in_flight = threading.Lock()

    @classmethod
    def load(cls, vault: Vault) -> StateStore:
        """The state in an opened vault. Raises VaultCorrupt."""
        return cls(vault, DeviceState.decode(vault.read()))

    @property
    def state(self) -> DeviceState:
        return self._state

    def change(self, step: Callable[[DeviceState], DeviceState]) -> DeviceState:
        """Apply `step` to the current state and make the result durable; the new state.

        If the write fails nothing has changed. A step that returns the very same state writes nothing.
        """
        with self._lock:
            changed = step(self._state)
            if changed is not self._state:
                self._vault.write(changed.encode())
                self._state = changed
            return changed

    def close(self) -> None:
        self._vault.close()

    def __repr__(self) -> str:
        return "StateStore()"
