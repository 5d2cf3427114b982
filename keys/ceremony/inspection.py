"""`inspect`: what a file says to anybody. Of this only a signed document is authenticated, and only by itself."""

from __future__ import annotations

from typing import Any

from keys.ceremony.ceremony_key import CEREMONY_KEY_MAGIC
from keys.refusal import Refusal, printable
from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.provisioning.manifest import MANIFEST_FORMAT, MAX_MANIFEST_BYTES, SignedManifest
from mpc.provisioning.recipient import RECIPIENT_FORMAT, Recipient
from mpc.provisioning.signed_document import fingerprint
from mpc.provisioning.times import to_text
from mpc.threshold_rsa.share_package import SharePackageError, read_share_header

MAX_INSPECTED_BYTES = MAX_MANIFEST_BYTES
_SHARE_MAGIC = b"TSHR"
_RECIPIENT_KEY_MAGIC = b"TRKY"
_LOCKED_HEAD_BYTES = 6
_SHOWN_KEYS = 24


def look_at(data: bytes) -> dict[str, Any]:
    """Names and values, the kind of file first. Raises Refusal("unknown_file") or ("damaged")."""
    try:
        if data.startswith(_SHARE_MAGIC):
            return _share(data)
        if data.startswith(_RECIPIENT_KEY_MAGIC):
            return _locked(data, "private key of a recipient, under a passphrase: keep it as you keep a key")
        if data.startswith(CEREMONY_KEY_MAGIC):
            return _locked(data, "key that signs ceremonies, under a passphrase: keep it as you keep a key")
        # The decoders check the format themselves; this only chooses whose error is worth reading.
        if RECIPIENT_FORMAT.rpartition(" ")[0].encode() in data[:4096]:
            return _recipient(data)
        if MANIFEST_FORMAT.rpartition(" ")[0].encode() in data[:4096]:
            return _manifest(data)
    except SharePackageError as error:
        raise Refusal("damaged", error.problem) from None
    except DecodeError as error:
        raise Refusal("damaged", f"the file is damaged or was altered: {error}") from None
    raise Refusal("unknown_file", "this is no recipient, sealed share, manifest or key file of Tandem")


def _share(data: bytes) -> dict[str, Any]:
    header = read_share_header(data)
    return {
        "file": "sealed share; nothing here is authenticated until its holder opens it",
        "role": header.role.value,
        "key_id": base64url.encode(header.key_id),
        "rp_id": printable(header.rp_id),
        "not_after": _time(header.not_after),
        "ceremony_id": header.ceremony_id.hex(),
        "suite": header.suite.value,
        "recipient": fingerprint(header.recipient_id),
        "bytes": len(data),
    }


def _locked(data: bytes, kind: str) -> dict[str, Any]:
    if len(data) < _LOCKED_HEAD_BYTES:
        raise Refusal("damaged", "this key file is cut short; copy it again")
    return {
        "file": kind,
        "version": data[4],
        "scrypt_log2_n": data[5],
        "bytes": len(data),
    }


def _recipient(data: bytes) -> dict[str, Any]:
    recipient = Recipient.decode(data)
    return {
        "file": "recipient; its signature is sound, and whose it is, its fingerprint must tell",
        "fingerprint": recipient.fingerprint,
        "role": recipient.role.value,
        "name": recipient.name,
        "server_id": printable(recipient.server_id),
        "enrolment_id": None if recipient.enrolment_id is None else recipient.enrolment_id.hex(),
        "suite": recipient.public_key.suite.value,
        "created_at": to_text(recipient.created_at),
    }


def _manifest(data: bytes) -> dict[str, Any]:
    signed = SignedManifest.decode(data)
    manifest = signed.manifest
    return {
        "file": "manifest of a ceremony; its signature is sound, `tandem-keys verify` looks at the files too",
        "ceremony_key": signed.fingerprint,
        "ceremony_id": manifest.ceremony_id.hex(),
        "kind": manifest.kind.value,
        "revision": manifest.revision,
        "previous": None if manifest.previous is None else manifest.previous.hex(),
        "operators": list(manifest.operators),
        "witnesses": list(manifest.witnesses),
        "started_at": to_text(manifest.started_at),
        "finished_at": to_text(manifest.finished_at),
        "tool": dict(manifest.tool),
        "parameters": dict(manifest.parameters),
        "rp_id": manifest.rp_id,
        "not_after": _time(manifest.not_after),
        "recipients": [fingerprint(recipient_id) for recipient_id in manifest.recipients[:_SHOWN_KEYS]],
        "recipient_count": len(manifest.recipients),
        "keys": [base64url.encode(dealt.key.key_id) for dealt in manifest.keys[:_SHOWN_KEYS]],
        "key_count": len(manifest.keys),
        "files": len(manifest.files),
    }


def _time(at: int | None) -> str | None:
    return None if at is None else to_text(at)
