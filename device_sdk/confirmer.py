"""Message 3, in the background: off the user's critical path, retried, and safe to lose (rows D5 and D6)."""

from __future__ import annotations

import threading

from device_sdk.errors import Advice, TandemError
from device_sdk.server_api import ServerApi
from device_sdk.state_store import StateStore
from device_sdk.transport import RequestKey, ServerProblem
from mpc.login.messages import Message3

_RETRY_AFTER_S = (0.5, 2.0, 8.0)


class Confirmer:
    """Delivers outstanding confirmations. What it does not deliver goes along with the next login."""

    def __init__(self, store: StateStore, api: ServerApi) -> None:
        self._store = store
        self._api = api
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._asked = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Deliver in the background, with a few retries. Returns at once; one thread at a time does it."""
        with self._lock:
            self._asked = True
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="tandem-confirm", daemon=True)
                self._thread.start()

    def deliver(self, *, timeout_s: float | None = None) -> bool:
        """One try, now: True if nothing is outstanding afterwards.

        Raises TransportError and ServerProblem. Repeating is safe: the server answers a known token again.
        """
        state = self._store.state
        upcoming = state.next
        if upcoming is None:
            return True
        message = Message3(state.enrolment_id, upcoming.confirmation)
        try:
            self._api.confirm(message, RequestKey.from_scalar(state.request_key), timeout_s=timeout_s)
        except ServerProblem as refusal:
            problem = refusal.problem
            if problem.code == "unknown_login" and problem.epoch == state.epoch:
                self._store.change(lambda now: now.dropped(upcoming.confirmation))  # D6
                return True
            raise
        self._store.change(lambda now: now.settled(upcoming.confirmation))  # D5
        return self._store.state.next is None

    def wait(self, timeout_s: float) -> None:
        """Give a delivery under way up to `timeout_s` seconds, then stop retrying."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        self._stopping.set()
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._asked or self._stopping.is_set():
                    self._thread = None
                    return
                self._asked = False
            try:
                self._deliver_with_retries()
            except BaseException as error:
                if isinstance(error, ValueError) and self._stopping.is_set():
                    continue  # the vault was closed while the server kept us waiting: the next login carries the token
                with self._lock:
                    self._thread = None  # an app's own transport failed in its own way; the next login tries anew
                raise

    def _deliver_with_retries(self) -> None:
        for pause in (*_RETRY_AFTER_S, None):
            try:
                if self.deliver():
                    return
            except TandemError as fault:
                if fault.advice is not Advice.RETRY:
                    return
            if pause is None or self._stopping.wait(pause):
                return
