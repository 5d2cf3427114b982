"""Whose request this is, as far as rate limits are concerned: an IPv4 address, or the /64 of an IPv6 one.

The peer of the connection counts, and no header, unless the peer is a proxy that the setting `trusted_proxies` names.
Such a proxy appends the address that it sees to X-Forwarded-For. So the field is read from its end: entries of trusted
proxies are passed over, and the first other one is the client. What stands before it was sent by the client and may say
anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NETWORK_BITS = 64
"""One customer is given a whole /64, and has all its addresses."""
_SITE_BITS = 48
"""Sites are given a /48, and so is whoever asks a hosting company for one."""


def client_address(scope: dict[str, Any], trusted: Sequence[Network]) -> str | None:
    """The address or network that a request counts against, in text; None if it would stand for everybody.

    That is so for a trusted proxy which does not say for whom it speaks, and for a peer on this machine: a proxy that
    was not named, or the operator. A balancer that passes TCP through must never be trusted: it adds no header, so its
    clients would write theirs as they like. scope: ASGI's.
    """
    peer = _parsed((scope.get("client") or ("",))[0])
    if peer is None:
        return None
    if not _is_any_of(peer, trusted):
        return None if peer.is_loopback else _counted(peer)
    for entry in reversed(_forwarded(scope["headers"])):
        address = _parsed(_without_port(entry))
        if address is None:
            return None
        if not _is_any_of(address, trusted):
            return _counted(address)
    return None


def site_of(counted: str) -> str | None:
    """The /48 of a network that `client_address` gave; None of an IPv4 address."""
    if ":" not in counted:
        return None
    return str(ipaddress.ip_network(counted).supernet(new_prefix=_SITE_BITS))


def came_over_tls(scope: dict[str, Any], trusted: Sequence[Network]) -> bool:
    """Whether the client spoke TLS: with this process, or with a proxy of `trusted_proxies` that says so."""
    if scope["scheme"] == "https":
        return True
    peer = _parsed((scope.get("client") or ("",))[0])
    told = [value for name, value in scope["headers"] if name.lower() == b"x-forwarded-proto"]
    return peer is not None and _is_any_of(peer, trusted) and told == [b"https"]


def parse_network(text: str) -> Network:
    """An address or a network in CIDR notation. ValueError."""
    return ipaddress.ip_network(text, strict=True)


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    fields = [value.decode("latin-1") for name, value in headers if name.lower() == b"x-forwarded-for"]
    return [entry.strip() for entry in ",".join(fields).split(",")] if fields else []


def _without_port(entry: str) -> str:
    if entry.startswith("["):  # [2001:db8::1]:4711
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _is_any_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _counted(address: Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), _NETWORK_BITS), strict=False))
