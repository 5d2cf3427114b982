"""How values stand in the JSON files; docs/vectors/README.md tells it to readers.

Byte strings are lower-case hexadecimal. In a decoded message they are written h'…' as in CBOR's diagnostic notation
(RFC 8949 section 8), so that they cannot be taken for text; long ones by length and SHA-256, since the message itself
stands beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import cbor2

from mpc.primitives.aes import Blocks
from mpc.threshold_rsa.public_key import PublicKey

Json = dict[str, Any]

_LONG_BYTES = 320


def digest(data: bytes) -> Json:
    """What stands for bytes too long to be read."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def blocks(rows: Blocks) -> str:
    """16-byte blocks one after the other."""
    return rows.tobytes().hex()


def number(value: int, key: PublicKey) -> str:
    """A number modulo N, big-endian at the length of N."""
    return value.to_bytes(key.size_bytes, "big").hex()


def cbor(data: bytes) -> Json:
    """A CBOR value: its bytes, and what they say."""
    return {"hex": data.hex(), "decoded": decoded(data)}


def message(name: str, sender: str, path: str, body: bytes) -> Json:
    """One body on its way. path: where it is posted, or what it answers."""
    return {"message": name, "from": sender, "http": path, "bytes": len(body), **cbor(body)}


def decoded(data: bytes) -> Any:
    """The value of canonical CBOR in JSON."""
    return _shown(cbor2.loads(data))


def text_of(content: Json) -> str:
    """A file's text: one value a line, so that two versions can be compared; lists of numbers stay on one."""
    return _lines(content, "") + "\n"


def _lines(value: Any, indent: str) -> str:
    deeper = indent + " "
    if isinstance(value, dict) and value:
        entries = [
            f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_lines(entry, deeper)}" for key, entry in value.items()
        ]
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list | str) for entry in value):
        return "[\n" + ",\n".join(deeper + _lines(entry, deeper) for entry in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _shown(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shown(entry) for entry in value]
    if isinstance(value, bytes):
        return f"h'{value.hex()}'" if len(value) <= _LONG_BYTES else digest(value)
    return value


def topic(title: str, about: str, sections: Sequence[str], content: Json) -> Json:
    """One file. sections: where the documents tell what the values are."""
    return {
        "format": "tandem interoperability vectors 1",
        "title": title,
        "about": about,
        "sections": list(sections),
        "made_by": "python -m interop --write docs/vectors",
        "warning": "Every key and code here follows from a published seed. Never use one of them.",
        **content,
    }
