"""An RSA private key as the dealer holds it, and how one is read from a file.

| accepted | as |
|---|---|
| PKCS#1 (RFC 8017 appendix A.1.2) | PEM "RSA PRIVATE KEY", also with OpenSSL's old encryption; DER |
| PKCS#8 (RFC 5958) | PEM "PRIVATE KEY" and "ENCRYPTED PRIVATE KEY"; DER of both |
| PKCS#12 (RFC 7292) | DER, under a passphrase or without |

Nothing is judged here: a weak key is loaded too, so that `keys.sources.weak_keys` can say why it is refused. The one
exception is PKCS#12, where the library insists on numbers that fit each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs12

from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.public_key import PublicKey

MAX_SOURCE_BYTES = 256 * 1024
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_BEGIN_PRIVATE = re.compile(rb"BEGIN[^\n-]*PRIVATE KEY", re.IGNORECASE)
_FOREIGN_LABELS = {b"EC PRIVATE KEY", b"DSA PRIVATE KEY"}
_ENCRYPTED_LABEL = b"ENCRYPTED PRIVATE KEY"
_LABELS = {b"RSA PRIVATE KEY", b"PRIVATE KEY", _ENCRYPTED_LABEL}
_OLD_ENCRYPTION = re.compile(
    rb"DEK-Info: (?:AES-(?:128|192|256)-CBC,[0-9A-Fa-f]{32}|DES-EDE3-CBC,[0-9A-Fa-f]{16})\r?\n"
)
_SEQUENCE = 0x30
_PKCS12_VERSION = b"\x02\x01\x03"
_INCONSISTENT_TEXT = "Invalid private key"

_SENTENCES = {
    "needs_passphrase": "the key is under a passphrase: give it",
    "wrong_passphrase": "the key does not open: the passphrase is wrong, or the file is damaged",
    "not_rsa": "the key is not an RSA key; Tandem deals RSA keys only",
    "unreadable": "this is no private key in PEM, DER or PKCS#12 that can be read here; convert it to PKCS#8",
    "several_keys": "the file holds several private keys; give each a file of its own",
    "inconsistent": "the numbers of the key do not fit each other; fetch the key again from where it is used",
}


class SourceKeyError(Exception):
    """A file gives no key to deal. Nothing of its content is in the text.

    `reason` is one of needs_passphrase, wrong_passphrase, not_rsa, unreadable, several_keys, and for PKCS#12
    inconsistent.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SourceKey(NeverPickled):
    """The whole key. It is never written and never leaves its process; nothing is checked here yet.

    crt: (d mod p − 1, d mod q − 1, q^−1 mod p) if a file gave them.
    """

    modulus: int
    exponent: int
    private_exponent: int = field(repr=False)
    p: int = field(repr=False)
    q: int = field(repr=False)
    crt: tuple[int, int, int] | None = field(default=None, repr=False)

    @property
    def public(self) -> PublicKey:
        """ValueError for a key that Tandem does not take at all (size, parity, exponent)."""
        return PublicKey(self.modulus, self.exponent)


def load_source_key(data: bytes, passphrase: bytes | None) -> SourceKey:
    """The one RSA key in the file. Raises SourceKeyError.

    passphrase: None if there is none; ignored where the key is not under one. Text besides the key's PEM block, such
    as certificates, is ignored.
    """
    if not 0 < len(data) <= MAX_SOURCE_BYTES:
        raise _refused("unreadable")
    if _is_one_der_value(data):
        return _from_der(data, passphrase)
    return _from_pem(data, passphrase)


def _from_pem(data: bytes, passphrase: bytes | None) -> SourceKey:
    blocks = [(found[1], found[0]) for found in _BLOCK.finditer(data) if found[1].endswith(b"PRIVATE KEY")]
    # Counted a second time and loosely: the key that is dealt must be the only one, however the others are written.
    if len(blocks) > 1 or len(_BEGIN_PRIVATE.findall(data)) > 1:
        raise _refused("several_keys")
    if not blocks:
        raise _refused("unreadable")
    label, block = blocks[0]
    if label in _FOREIGN_LABELS:
        raise _refused("not_rsa")
    if label not in _LABELS:
        raise _refused("unreadable")
    old_encryption = b"Proc-Type:" in block or b"DEK-Info:" in block
    # With an initial value that is too short the library would not raise, but panic.
    if old_encryption and len(_OLD_ENCRYPTION.findall(block)) != 1:
        raise _refused("unreadable")
    encrypted = label == _ENCRYPTED_LABEL or old_encryption
    return _load(load_pem_private_key, block, passphrase, encrypted=encrypted)


def _from_der(data: bytes, passphrase: bytes | None) -> SourceKey:
    content = data[_header_bytes(data) :]
    if content.startswith(_PKCS12_VERSION):
        return _from_pkcs12(data, passphrase)
    # An encrypted PKCS#8 begins with an algorithm, all others with a version.
    return _load(load_der_private_key, data, passphrase, encrypted=content[:1] == bytes([_SEQUENCE]))


def _load(load: Callable[..., object], data: bytes, passphrase: bytes | None, *, encrypted: bool) -> SourceKey:
    if encrypted and passphrase is None:
        raise _refused("needs_passphrase")
    if encrypted and not passphrase:
        raise _refused("wrong_passphrase")
    try:
        key = load(data, passphrase if encrypted else None, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        raise _refused("unreadable") from None
    except (ValueError, TypeError, OverflowError, MemoryError):
        # A wrong passphrase now and then decrypts to something that looks padded: what follows from it is no reason.
        raise _refused("wrong_passphrase" if encrypted else "unreadable") from None
    except BaseException as error:
        if _is_panic(error):
            raise _refused("unreadable") from None
        raise
    return _source_key(key)


def _from_pkcs12(data: bytes, passphrase: bytes | None) -> SourceKey:
    for attempt in dict.fromkeys((passphrase, None)):
        try:
            return _source_key(pkcs12.load_pkcs12(data, attempt).key)
        except UnsupportedAlgorithm:
            raise _refused("unreadable") from None
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            # No loader of PKCS#12 skips the library's own check of the numbers; its text is the only sign of it.
            if str(error) == _INCONSISTENT_TEXT:
                raise _refused("inconsistent") from None
        except BaseException as error:
            if _is_panic(error):
                raise _refused("unreadable") from None
            raise
    raise _refused("needs_passphrase" if passphrase is None else "wrong_passphrase")


def _source_key(key: object) -> SourceKey:
    if key is None:
        raise _refused("unreadable")
    if not isinstance(key, RSAPrivateKey):
        raise _refused("not_rsa")
    numbers = key.private_numbers()
    return SourceKey(
        modulus=numbers.public_numbers.n,
        exponent=numbers.public_numbers.e,
        private_exponent=numbers.d,
        p=numbers.p,
        q=numbers.q,
        crt=(numbers.dmp1, numbers.dmq1, numbers.iqmp),
    )


def _is_panic(error: BaseException) -> bool:
    """Whether the library stopped on a bug of its own: PyO3's PanicException, which is no Exception and has no name."""
    return type(error).__module__ == "pyo3_runtime"


def _is_one_der_value(data: bytes) -> bool:
    """Whether the data is one ASN.1 SEQUENCE in definite length with nothing after it."""
    if data[0] != _SEQUENCE or len(data) < 4:
        return False
    start = _header_bytes(data)
    length = data[1] if start == 2 else int.from_bytes(data[2:start], "big")
    return start + length == len(data)


def _header_bytes(data: bytes) -> int:
    return 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)


def _refused(reason: str) -> SourceKeyError:
    return SourceKeyError(reason, _SENTENCES[reason])
