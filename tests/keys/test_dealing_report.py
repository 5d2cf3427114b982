"""The report: one page for people, which says what the manifest says and needs nothing from elsewhere."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from dealers_room import Room, holder, manifest_of, succeeds

from keys.ceremony.report import render_report
from mpc.primitives import base64url
from mpc.provisioning.manifest import CeremonyKind, SignedManifest
from mpc.threshold_rsa.share_package import Role


class Page(HTMLParser):
    """The texts, and everything that a browser would fetch or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.active: list[str] = []
        self.tags: set[str] = set()
        self._style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._style = tag == "style"
        self.active += [
            f"{tag}.{name}" for name, _ in attrs if name in ("src", "href", "action") or name.startswith("on")
        ]
        if tag in ("script", "iframe", "object", "link", "img", "base", "form"):
            self.active.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.texts))


def test_the_report_names_everything_that_people_compare(tmp_path: Path) -> None:
    """Who, when, what, for whom, and the fingerprint that goes on paper."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    people = ["--operator", "Grace Hopper", "--operator", "Ada Lovelace", "--witness", "Alan Turing"]
    succeeds("generate", *room.options(), "--count", "2", "--not-after", "2031-02-03T04:05:06Z", *people)

    html = (room.out / "report.html").read_text(encoding="utf-8")

    page, manifest = Page(html), manifest_of(room.out)
    fingerprint = SignedManifest.decode((room.out / "manifest.json").read_bytes()).fingerprint
    assert fingerprint.replace("-", " ") in page.text
    expected = [manifest.rp_id, manifest.ceremony_id.hex(), "2031-02-03 04:05:06 UTC", "4 RSA keys of 2048 bits"]
    expected += [who.recipient.fingerprint for who in (room.server, *room.devices)]
    expected += [who.recipient.name for who in (room.server, *room.devices)]
    expected += [base64url.encode(dealt.key.key_id) for dealt in manifest.keys]
    expected += ["Operator: Grace Hopper", "Operator: Ada Lovelace", "Witness: Alan Turing", "not compared"]
    expected += ["What the manifest proves", "What it cannot prove", "tandem-keys " + manifest.tool["tandem-keys"]]
    assert [text for text in expected if text not in page.text] == []


def test_the_report_is_one_file_without_anything_from_elsewhere(tmp_path: Path) -> None:
    """An offline machine prints it, and a page that fetches something could show other things elsewhere."""
    room = Room.furnish(tmp_path)
    succeeds("generate", *room.options())

    html = (room.out / "report.html").read_text(encoding="utf-8")

    assert not Page(html).active
    assert not re.findall(r"url\(|@import|https?://", html)
    assert "@page" in html


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    """Recipient files come from strangers, and a name may hold anything printable."""
    room = Room.furnish(tmp_path)
    name = "<script>alert(1)</script>&amp;\"'"
    holder(tmp_path / "devices" / "mallory.json", Role.DEVICE, name=name)
    succeeds("generate", *room.options(), "--operator", "<b>Grace</b>")

    page = Page((room.out / "report.html").read_text(encoding="utf-8"))

    assert not page.active and "b" not in page.tags
    assert name in "".join(page.texts) and "<b>Grace</b>" in page.text


def test_a_long_list_shows_its_ends_and_its_length(tmp_path: Path) -> None:
    """A fleet's report still fits on its page; the manifest has everything."""
    room = Room.furnish(tmp_path, devices=[f"device{n:02}" for n in range(30)])
    succeeds("generate", *room.options(), "--processes", "2")

    text = Page((room.out / "report.html").read_text(encoding="utf-8")).text

    ids = [base64url.encode(dealt.key.key_id) for dealt in manifest_of(room.out).keys]
    assert [id_ for id_ in ids if id_ in text] == ids[:6] + ids[-6:]
    assert "18 more; the full list is in manifest.json" in text
    shown = [device for device in room.devices if device.recipient.fingerprint in text]
    assert shown == [*room.devices[:4], *room.devices[-4:]]
    assert "22 more; the full list is in manifest.json" in text


def test_up_to_24_keys_are_all_named(tmp_path: Path) -> None:
    """Nobody should need a second file for a small ceremony."""
    room = Room.furnish(tmp_path)
    succeeds("generate", *room.options(), "--count", "24", "--processes", "2")

    text = Page((room.out / "report.html").read_text(encoding="utf-8")).text

    assert all(base64url.encode(dealt.key.key_id) in text for dealt in manifest_of(room.out).keys)


def test_each_kind_of_ceremony_says_what_it_cannot_prove(tmp_path: Path) -> None:
    """The limits differ: a dealer saw new keys, a source may live on, an old key still opens."""
    room = Room.furnish(tmp_path)
    succeeds("generate", *room.options())
    manifest = manifest_of(room.out)
    recipients = [room.server.recipient, room.devices[0].recipient]

    def text(kind: CeremonyKind) -> str:
        previous = bytes(32) if kind is CeremonyKind.REWRAP else None
        changed = replace(manifest, kind=kind, previous=previous, finished_at=int(time.time()))
        return Page(render_report(changed, recipients, {}, "ABCD-EFGH")).text

    assert "That nobody kept a key" in text(CeremonyKind.GENERATE)
    assert "source of an imported key" in text(CeremonyKind.IMPORT)
    assert "private key is destroyed" in text(CeremonyKind.REWRAP) and "00" * 32 in text(CeremonyKind.REWRAP)
