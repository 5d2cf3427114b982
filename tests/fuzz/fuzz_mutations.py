"""Damage done to files: small edits of bytes, and edits of the values in JSON, CBOR and share files.

An edit is three numbers and a word, so that hypothesis can shrink it and a coverage-guided engine can draw it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import cbor2

Edit = tuple[str, int, int]
"""(kind, where, what); the numbers count modulo what there is."""

BYTE_EDITS = ("flip", "set", "cut", "drop", "repeat", "insert", "move", "zero")
TREE_EDITS = ("replace", "remove", "copy", "add", "wrap", "nudge", "swap")
_MAX_GROWTH = 4096
_BLOBS = (
    b"\x00",
    b"\xff",
    b"\xff\xff\xff\xff",
    b'"',
    b"{}",
    b"[" * 200,
    b"\xa0",
    b"\x9f",
    b"\xc2",
    b"\xed\xa0\x80",
    b" \n",
)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**64, -(2**70), 10**5000, 1.5, float("inf"), "", "x", "\x00",
    "\ud800", "é" * 300, "2026-11-20T16:00:00Z", "9999-99-99T99:99:99Z", "../../x", "device", "server",
    "mlkem768-x25519", b"", b"\x00" * 32, b"\xff" * 300, [], {}, [[]], {"": ""}, ["x"] * 200,
    {"a": {"b": {"c": {"d": {"e": {}}}}}},
)  # fmt: skip


class Style(StrEnum):
    """At which level a file is damaged."""

    BYTES = "bytes"
    JSON = "json"
    CBOR = "cbor"
    SHARE = "share"


def kinds(style: Style) -> Sequence[str]:
    return BYTE_EDITS if style is Style.BYTES else TREE_EDITS


def damaged(data: bytes, style: Style, edits: Sequence[Edit]) -> bytes:
    """The file after the edits. What a format cannot express is left as the bytes were."""
    return _STYLES[style](data, edits)


def _edit_bytes(data: bytes, edits: Sequence[Edit]) -> bytes:
    out = bytearray(data)
    for kind, where, what in edits:
        at = where % (len(out) + 1)
        length = what % 64 + 1
        if kind == "flip" and out:
            out[at % len(out)] ^= 1 << (what % 8)
        elif kind == "set" and out:
            out[at % len(out)] = what % 256
        elif kind == "cut":
            del out[at:]
        elif kind == "drop":
            del out[at : at + length]
        elif kind == "repeat" and len(out) < len(data) + _MAX_GROWTH:
            out[at:at] = out[at : at + length]
        elif kind == "insert" and len(out) < len(data) + _MAX_GROWTH:
            out[at:at] = _BLOBS[what % len(_BLOBS)]
        elif kind == "move":
            piece = out[at : at + length]
            del out[at : at + length]
            to = what % (len(out) + 1)
            out[to:to] = piece
        elif kind == "zero":
            out[at : at + length] = bytes(len(out[at : at + length]))
    return bytes(out)


def _edit_json(data: bytes, edits: Sequence[Edit]) -> bytes:
    try:
        tree = json.loads(data)
        return json.dumps(_edit_tree(tree, edits), ensure_ascii=False, default=repr).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return _edit_bytes(data, [("flip", where, what) for _, where, what in edits])


def _edit_cbor(data: bytes, edits: Sequence[Edit]) -> bytes:
    try:
        return cbor2.dumps(_edit_tree(cbor2.loads(data), edits), canonical=True)
    except Exception:  # not CBOR any more, or a value that CBOR does not have
        return _edit_bytes(data, [("flip", where, what) for _, where, what in edits])


def _edit_share(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Edits of the visible header, with the lengths around it put right."""
    if len(data) < 7:
        return _edit_bytes(data, [("set", where, what) for _, where, what in edits])
    end = 7 + int.from_bytes(data[5:7], "big")
    header = _edit_cbor(data[7:end], edits)[:65535]
    return data[:5] + len(header).to_bytes(2, "big") + header + data[end:]


def _edit_tree(tree: Any, edits: Sequence[Edit]) -> Any:
    root = [copy.deepcopy(tree)]
    for kind, where, what in edits:
        places = list(_places(root))
        holder, key = places[where % len(places)]
        other_holder, other_key = places[what % len(places)]
        if kind == "replace":
            holder[key] = copy.deepcopy(_VALUES[what % len(_VALUES)])
        elif kind == "remove" and holder is not root:
            del holder[key]
        elif kind == "copy":
            holder[key] = copy.deepcopy(other_holder[other_key])
        elif kind == "swap":
            holder[key], other_holder[other_key] = (
                copy.deepcopy(other_holder[other_key]),
                copy.deepcopy(holder[key]),
            )
        elif kind == "add" and isinstance(holder[key], dict):
            holder[key][f"x{what % 9}"] = copy.deepcopy(_VALUES[what % len(_VALUES)])
        elif kind == "add" and isinstance(holder[key], list):
            holder[key].append(copy.deepcopy(_VALUES[what % len(_VALUES)]))
        elif kind == "wrap":
            holder[key] = [holder[key]]
        elif kind == "nudge":
            holder[key] = _nudged(holder[key], what)
    return root[0]


def _places(node: Any) -> Any:
    """Every (container, key) below the node."""
    keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in list(keys):
        yield node, key
        yield from _places(node[key])


def _nudged(value: Any, what: int) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + (1 if what % 2 else -1)
    if isinstance(value, bytes):
        return _edit_bytes(value, [("flip", what // 8, what)])
    if isinstance(value, str) and value:
        at = what % len(value)
        return value[:at] + chr((ord(value[at]) ^ (1 << (what % 6))) or 1) + value[at + 1 :]
    return [value]


_STYLES: dict[Style, Callable[[bytes, Sequence[Edit]], bytes]] = {
    Style.BYTES: _edit_bytes,
    Style.JSON: _edit_json,
    Style.CBOR: _edit_cbor,
    Style.SHARE: _edit_share,
}
