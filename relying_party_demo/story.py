"""`make demo`: the whole story on this machine, with real servers, real messages, and a simulated finger or faces.

Each step says what should happen; the story is told as it should be only if every step came out so.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from relying_party_demo.app import create_app
from relying_party_demo.local_stack import AuthServer, RelyingPartyServer, StackError, free_port
from relying_party_demo.phone import SimulatedPhone
from relying_party_demo.phone_people import PhonePeople, PhotographedPeople, SimulatedPeople
from relying_party_demo.provisioned_story import deal_first_key, import_old_keys, is_the_dealt_key
from relying_party_demo.settings import RelyingPartySettings
from relying_party_demo.story_steps import RP_ID, USER, Happened, Story, log_in, refused, register
from relying_party_demo.visitor_client import VisitorClient


def tell(console: Console, folder: Path, dump: Path | None, *, people: PhonePeople, provisioned: bool = False) -> Story:
    """Start both servers in `folder` and run every step. Raises StackError if a server does not start.

    provisioned: the keys are dealt by a security team instead of being made by the phone. people: who stands in front
    of the phone.
    """
    story = Story(console, dump)
    listener = free_port()
    statement = folder / "metadata_statement.json"
    settings = RelyingPartySettings(
        database=folder / "relying_party.sqlite",
        origin=f"http://localhost:{listener.getsockname()[1]}",
        rp_id=RP_ID,
        attestation="direct",
        metadata_statement=statement,
    )
    with AuthServer(folder, rp_id=RP_ID, profiles=people.profiles) as auth:
        console.print(f"auth server {auth.url}, relying party {settings.origin}", highlight=False)
        console.print(f"{people.told} Bytes: phone to auth server and back.\n", highlight=False)

        def publish() -> Happened:
            auth.operator("attestation", "init", "--country", "XX", "--organization", "Tandem demonstration")
            auth.operator("metadata-statement", "--out", str(statement))
            root = json.loads(statement.read_text(encoding="utf-8"))["attestationRootCertificates"][0]
            return Happened(True, f"root certificate {hashlib.sha256(base64.b64decode(root)).hexdigest()[:8]}…")

        story.step("operator publishes FIDO metadata", publish)
        if not story.ok:
            return story
        with RelyingPartyServer(listener, create_app(settings)):
            _tell_of_a_phone(story, settings.origin, auth, folder, people, provisioned=provisioned)
    return story


def _tell_of_a_phone(
    story: Story, origin: str, auth: AuthServer, folder: Path, people: PhonePeople, *, provisioned: bool
) -> None:
    site = VisitorClient(origin)
    holder: list[SimulatedPhone] = []

    def enrol() -> Happened:
        code = auth.operator("code", "--label", USER)
        phone = SimulatedPhone.enrolled(auth.url, code, folder / "phone", people=people)
        holder.append(phone)
        return Happened(True, "two halves, each noise", phone.enrolment())

    story.step("enrol with three captures", enrol)
    phone = holder[0]
    try:
        ceremony = deal_first_key(story, phone, auth, folder) if provisioned else None
        story.step("register a passkey (RS256, attested)", lambda: register(story, site, phone))
        if ceremony is not None:
            is_the_dealt_key(story, phone, ceremony)
        _life(story, site, phone, people.feature)
        _clone(story, site, phone, auth, folder, people.feature)
        _revocation(story, site, phone, auth, people.feature)
        if ceremony is not None:
            import_old_keys(story, origin, phone, auth, folder)
    finally:
        phone.close()


def _life(story: Story, site: VisitorClient, phone: SimulatedPhone, feature: str) -> None:
    for count in (1, 2, 3):
        story.step(f"log in, noisy capture {count}", lambda: log_in(story, site, phone))
    story.step(f"impostor's {feature} on the right phone", lambda: refused(site, phone, "no_match", who="impostor"))


def _clone(
    story: Story, site: VisitorClient, phone: SimulatedPhone, auth: AuthServer, folder: Path, feature: str
) -> None:
    copy: list[SimulatedPhone] = []

    def copied() -> Happened:
        copy.append(phone.copied_to(folder / "copy"))
        return Happened(True, "vault file and its key copied")

    story.step("a thief copies the phone's files", copied)
    story.step("the original logs in and moves on", lambda: log_in(story, site, phone))
    story.step(f"genuine {feature} on the copy", lambda: refused(site, copy[0], "quarantined"))

    def status() -> Happened:
        row = next(
            item
            for item in json.loads(auth.operator("enrolments", "--json"))["enrolments"]
            if item["id"] == phone.enrolment_id.hex()
        )
        return Happened(row["status"] == "quarantined", f"{row['status']}: {row['status_reason']}")

    story.step("the operator looks", status)
    story.step("the original is stopped too", lambda: refused(site, phone, "not_active"))

    def lift() -> Happened:
        refusal = phone.recover(auth.operator("lift", phone.enrolment_id.hex()))
        return Happened(refusal is None, refusal or "new request key, new base OT")

    story.step("operator lifts it, original recovers", lift)
    story.step("the original logs in again", lambda: log_in(story, site, phone))
    story.step("the copy tries once more", lambda: refused(site, copy[0], "unauthenticated"))
    copy[0].close()


def _revocation(story: Story, site: VisitorClient, phone: SimulatedPhone, auth: AuthServer, feature: str) -> None:
    def revoke() -> Happened:
        auth.operator("revoke-credential", "--", phone.newest_credential_id)
        return Happened(True, "the server's half of the key is erased")

    story.step("the operator revokes the key", revoke)
    story.step(f"genuine {feature}, revoked key", lambda: refused(site, phone, "credential_not_usable"))


def _photographed(console: Console, file: Path) -> PhonePeople:
    columns = (TextColumn("looking at the other faces"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        return PhotographedPeople(file, lambda: progress.advance(task))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo ARGS=…", description="The whole story on this machine.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the steps as JSON")
    parser.add_argument("--dump", type=Path, metavar="DIR", help="write every ceremony as NN-create.json, NN-get.json")
    parser.add_argument("--faces", type=Path, metavar="FILE.npz", help="on photographs instead of a simulated finger")
    parser.add_argument("--provisioned", action="store_true", help="with keys that a security team deals")
    chosen = parser.parse_args()
    console = Console()
    try:
        people: PhonePeople = _photographed(console, chosen.faces) if chosen.faces else SimulatedPeople()
    except (ValueError, OSError) as error:
        console.print(str(error), style="bold red", markup=False, soft_wrap=True)
        return 2
    if chosen.dump is not None:
        chosen.dump.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tandem-demo-") as folder:
        try:
            story = tell(console, Path(folder), chosen.dump, provisioned=chosen.provisioned, people=people)
        except StackError as error:
            console.print(str(error), style="bold red", markup=False, soft_wrap=True)
            return 2
    console.print()
    console.print(story.table())
    if chosen.json is not None:
        document = {"steps": [asdict(step) for step in story.steps], "ok": story.ok}
        chosen.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    console.print("all as told" if story.ok else "[bold red]not as told: see the steps marked ✗[/]")
    return 0 if story.ok else 1


if __name__ == "__main__":
    sys.exit(main())
