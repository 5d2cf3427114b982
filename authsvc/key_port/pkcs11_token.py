"""A KEK in a PKCS#11 token: an AES-256 key that never leaves it, used by CKM_AES_GCM.

The wrapped form is 12 bytes of nonce ‖ ciphertext ‖ 16 bytes of tag. Needs the package `python-pkcs11`
(`pip install 'tandem-auth[pkcs11]'`).
"""

from __future__ import annotations

import contextlib
import hmac
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mpc.primitives.hashing import tagged_hash
from mpc.primitives.secrecy import NeverPickled

from .port import KEK_ID_BYTES, KekKind, KeyUnavailable, WrappedKeyRefused

if TYPE_CHECKING:
    import pkcs11

_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_PROBE: Final = b"tandem probe"
_LOCKS: dict[str, threading.Lock] = {}
# In a forked process nobody else is left who could give a lock back.
os.register_at_fork(after_in_child=_LOCKS.clear)


class Pkcs11KeyWrapper(NeverPickled):
    """A `KeyWrapper` over one session. KeyUnavailable from the constructor too.

    One thread at a time is in a module, whatever key it uses.

    A session that broke is opened anew at the next operation. After a fork the child opens its own.
    """

    __slots__ = ("_key", "_key_id", "_label", "_module", "_pin", "_process", "_session", "_token_label")
    kind: KekKind = "pkcs11"

    def __init__(self, module: Path, token_label: str, key_label: str, pin: str) -> None:
        self._module, self._token_label, self._label, self._pin = module, token_label, key_label, pin
        self._session: pkcs11.Session | None = None
        self._key: Any = None
        self._process = 0
        with _lock_of(module):
            self._key_id = self._opened()

    @property
    def key_id(self) -> bytes:
        """From a hash of the token's serial number and the key's id and label."""
        return self._key_id

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._used(True, data_key, nonce, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        if len(wrapped) < _NONCE_BYTES + _TAG_BYTES:
            raise WrappedKeyRefused
        try:
            return self._used(False, wrapped[_NONCE_BYTES:], wrapped[:_NONCE_BYTES], context)
        except KeyUnavailable:
            # Tokens report a wrong tag by whatever code they like. If the key works, it was the tag.
            self._probe()
            raise WrappedKeyRefused from None

    def close(self) -> None:
        """End the session."""
        with _lock_of(self._module):
            self._forget()

    def _probe(self) -> None:
        """Raises KeyUnavailable unless the key opens what it has just wrapped."""
        probe = os.urandom(32)
        wrapped = self.wrap(probe, _PROBE)
        try:
            opened = self._used(False, wrapped[_NONCE_BYTES:], wrapped[:_NONCE_BYTES], _PROBE)
        except KeyUnavailable as error:
            raise KeyUnavailable("bad_answer", f"{error}, for what the key has just wrapped") from None
        if not hmac.compare_digest(opened, probe):
            raise KeyUnavailable("bad_answer", f"{self._name}: does not open what it has just wrapped")

    def _used(self, encrypt: bool, data: bytes, nonce: bytes, context: bytes) -> bytes:
        import pkcs11
        from pkcs11.mechanisms import GCMParams

        with _lock_of(self._module):
            for last_try in (False, True):
                if self._key is None or self._process != os.getpid():
                    found = self._opened()
                    if found != self._key_id:
                        self._forget()
                        raise KeyUnavailable("other_key", f"{self._name}: is another key than at the start")
                how = self._key.encrypt if encrypt else self._key.decrypt
                parameters = GCMParams(nonce, context, 8 * _TAG_BYTES)
                try:
                    return bytes(how(data, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters))
                except pkcs11.exceptions.PKCS11Error as error:
                    # The session may have ended, or another one may have logged this process out. Asking again changes
                    # nothing: both operations depend on their input alone.
                    self._forget()
                    if last_try:
                        raise KeyUnavailable("token", f"{self._name}: {type(error).__name__}") from None
        raise AssertionError("the second try ends above")

    def _opened(self) -> bytes:
        """Log in and find the key; its id."""
        import pkcs11

        session = None
        try:
            token = _token(self._module, self._token_label, fresh=self._process not in (0, os.getpid()))
            session = _logged_in(token, self._pin)
            key = _find(session, self._label)
            if key is None:
                raise KeyUnavailable("token", f"{self._name}: there is no such AES key; make one with authsvc make-kek")
            if key[pkcs11.Attribute.EXTRACTABLE] or not key[pkcs11.Attribute.SENSITIVE]:
                raise KeyUnavailable(
                    "token", f"{self._name}: can be read out of the token; make one that cannot, with authsvc make-kek"
                )
            if not key[pkcs11.Attribute.ENCRYPT] or not key[pkcs11.Attribute.DECRYPT]:
                raise KeyUnavailable(
                    "token", f"{self._name}: may not both encrypt and decrypt; make one that may, with authsvc make-kek"
                )
            serial = bytes(token.serial)
            hashed = tagged_hash("tandem kek id pkcs11 v1", serial, bytes(key.id), key.label.encode("utf-8"))
        except BaseException as error:
            # Tokens have few sessions, and this is tried again and again.
            if session is not None:
                with contextlib.suppress(pkcs11.exceptions.PKCS11Error):
                    session.close()
            if isinstance(error, pkcs11.exceptions.PKCS11Error):
                raise KeyUnavailable("token", f"{self._name}: {type(error).__name__}") from None
            raise
        self._session, self._key, self._process = session, key, os.getpid()
        return hashed[:KEK_ID_BYTES]

    def _forget(self) -> None:
        import pkcs11

        session, self._session, self._key = self._session, None, None
        if session is not None and self._process == os.getpid():
            with contextlib.suppress(pkcs11.exceptions.PKCS11Error):
                session.close()

    @property
    def _name(self) -> str:
        return f"the key {self._label} in the token {self._token_label}"

    def __repr__(self) -> str:
        return "Pkcs11KeyWrapper(<hidden>)"


def make_key(module: Path, token_label: str, key_label: str, pin: str) -> None:
    """Make the AES-256 key in the token: it can neither be read out nor used for anything but GCM's two operations.

    Raises KeyUnavailable, also if the token holds a key of that label.
    """
    import pkcs11

    name = f"the key {key_label} in the token {token_label}"
    flags = pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT
    kept = {
        pkcs11.Attribute.PRIVATE: True,
        pkcs11.Attribute.SENSITIVE: True,
        pkcs11.Attribute.EXTRACTABLE: False,
    }
    try:
        with _lock_of(module), _logged_in(_token(module, token_label), pin, rw=True) as session:
            if _find(session, key_label) is not None:
                raise KeyUnavailable("token", f"{name}: exists already; choose another label")
            session.generate_key(
                pkcs11.KeyType.AES,
                256,
                id=os.urandom(16),
                label=key_label,
                store=True,
                capabilities=flags,
                template=kept,
            )
    except pkcs11.exceptions.PKCS11Error as error:
        raise KeyUnavailable("token", f"{name}: {type(error).__name__}") from None


def _lock_of(module: Path) -> threading.Lock:
    """The binding lets go of the interpreter inside the module, and never tells the module that there are threads."""
    return _LOCKS.setdefault(os.path.realpath(module), threading.Lock())


def _token(module: Path, label: str, *, fresh: bool = False) -> pkcs11.Token:
    try:
        import pkcs11
    except ImportError:
        raise KeyUnavailable(
            "not_started", "kek_pkcs11 needs the package python-pkcs11; run pip install 'tandem-auth[pkcs11]'"
        ) from None
    library = pkcs11.lib(os.path.realpath(module))  # which refuses to load one module by two names
    if fresh:
        library.reinitialize()
    return library.get_token(token_label=label)


def _logged_in(token: pkcs11.Token, pin: str, *, rw: bool = False) -> pkcs11.Session:
    import pkcs11

    try:
        return token.open(rw=rw, user_pin=pin)
    except pkcs11.exceptions.UserAlreadyLoggedIn:
        # A process logs in to a token once, for all its sessions: two KEKs may be in one token during a rotation.
        return token.open(rw=rw)


def _find(session: pkcs11.Session, label: str) -> Any:
    """The only AES key of that label. KeyUnavailable if there are several: nobody could say which is meant."""
    import pkcs11

    wanted = {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
        pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
        pkcs11.Attribute.LABEL: label,
    }
    found = list(session.get_objects(wanted))
    if len(found) > 1:
        raise KeyUnavailable("token", f"the token holds several keys of the label {label}; give each its own")
    return found[0] if found else None
