"""Which origin may use which relying party id (WebAuthn Level 3, sections 5.1.3 step 8 and 5.1.4.1 step 7).

The caller states the origin; nothing here invents one. Every refusal is a `Security` error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import idna
from publicsuffixlist import PublicSuffixList

from device_sdk.errors import Security

_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?#@:\[\]\\\s]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_MAX_HOST_CHARACTERS = 253


@dataclass(frozen=True, slots=True)
class Origin:
    """A tuple origin that may run WebAuthn: https anywhere, http on loopback names only.

    `host` is a lower-case ASCII domain name, never an IP address; `port` is None for the scheme's default.
    Made by `parse_origin` only. `str()` gives the one serialisation that goes into client data.
    """

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}" + ("" if self.port is None else f":{self.port}")


def parse_origin(text: str) -> Origin:
    """The origin in `text`, which must be exactly scheme://host[:port]; case and IDNA are normalised.

    Raises Security for anything else, for IP addresses, and for http to a host that is not loopback.
    """
    if not isinstance(text, str):
        raise Security("the origin must be text such as https://login.example")
    if text.lower().startswith("android:"):
        raise Security(
            "android:apk-key-hash origins are not supported; state the https origin of the relying party "
            "that the app is associated with"
        )
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise Security("the origin must be exactly scheme://host[:port], without path, user or trailing slash")
    scheme = found["scheme"].lower()
    host = _canonical_host(found["host"])
    if host is None:
        raise Security("the host of the origin must be a domain name; IP addresses cannot be relying party ids")
    if scheme not in _DEFAULT_PORTS:
        raise Security("the origin must be an https origin")
    if scheme == "http" and not _is_loopback(host):
        raise Security("an http origin is allowed on localhost only; use https")
    port = None if found["port"] is None else int(found["port"])
    if port is not None and port > 65535:
        raise Security("the port of the origin is out of range")
    return Origin(scheme, host, None if port == _DEFAULT_PORTS[scheme] else port)


def relying_party_id(origin: Origin | str, rp_id: str | None) -> str:
    """The relying party id to use: the one asked for, once `check_rp_id` passed it, or the origin's host."""
    stated = origin if isinstance(origin, Origin) else parse_origin(origin)
    wanted = stated.host if rp_id is None else rp_id
    check_rp_id(stated, wanted)
    return wanted


def check_rp_id(origin: Origin | str, rp_id: str) -> None:
    """Raise Security unless `rp_id` is the host of `origin` or a registrable-domain suffix of it.

    Ports play no part. `rp_id` must already be spelt as lower-case ASCII: its hash is taken over these very
    bytes by the relying party too, so normalising it here would only make the login fail later.
    """
    stated = origin if isinstance(origin, Origin) else parse_origin(origin)
    if not isinstance(rp_id, str) or _canonical_host(rp_id) != rp_id:
        raise Security("the relying party id must be a lower-case ASCII domain name, and no IP address")
    host = stated.host
    if rp_id == host:
        if not _is_loopback(host) and _listed_suffixes().is_public(host):
            raise Security("the relying party id is a public suffix; use a registrable domain")
        return
    registrable = _registrable_domain(host)
    # An ancestor of the registrable domain is a public suffix or lies above one: sites there are strangers.
    if registrable is None or not _within(rp_id, registrable) or not _within(host, rp_id):
        raise Security("the relying party id is neither the host of the origin nor a registrable suffix of it")


def is_relying_party_id(text: str) -> bool:
    """Whether some origin could use `text` as its relying party id, as far as its spelling goes."""
    return _canonical_host(text) == text


def site_of(origin: Origin) -> str:
    """What one party has in its hands: the registrable domain with all names under it, on loopback the origin."""
    if _is_loopback(origin.host):
        return str(origin)
    return _registrable_domain(origin.host) or origin.host


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith("." + domain)


def _is_loopback(host: str) -> bool:
    return _within(host, "localhost")


def _registrable_domain(host: str) -> str | None:
    suffixes = _listed_suffixes()
    registrable: str | None = suffixes.privatesuffix(host)
    if registrable is None and suffixes.publicsuffix(host) is None:
        # The public suffix algorithm's default rule: an unlisted top-level label is a public suffix.
        labels = host.split(".")
        registrable = ".".join(labels[-2:]) if len(labels) >= 2 else None
    return registrable


@cache
def _listed_suffixes() -> PublicSuffixList:
    # Unlisted names are not taken for suffixes, so that https://intranet can use itself as relying party id.
    return PublicSuffixList(accept_unknown=False)


def _canonical_host(host: str) -> str | None:
    """The lower-case ASCII form of a domain name; None if it is none, or an IP address in any spelling."""
    if len(host) > _MAX_HOST_CHARACTERS:
        return None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    host = host.lower()
    labels = host.split(".")
    if len(host) > _MAX_HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    # A last label that is a number makes it an IPv4 address for browsers (WHATWG URL, "ends in a number").
    return None if _NUMBER.fullmatch(labels[-1]) else host
