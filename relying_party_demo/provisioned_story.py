"""The steps that `--provisioned` adds: a security team deals the keys, and each half reaches its holder sealed.

The team's machine is a folder that no server knows; between it and the others files are carried, and fingerprints read
out.
"""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs12,
)

from relying_party_demo.local_stack import AuthServer, run_command
from relying_party_demo.phone import SimulatedPhone
from relying_party_demo.story_steps import RP_ID, Happened, Story, log_in, refused, register
from relying_party_demo.visitor_client import VisitorClient

_PASSPHRASE = b"the old key's passphrase"


class DealersMachine:
    """The offline machine: both recipient files, what was read out, `tandem-keys`, and the ceremonies it has made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.server_recipient = folder / "server.json"
        self.phone_recipient = folder / "phone.json"
        self.read_out: dict[str, str] = {}

    def collect(self, auth: AuthServer, phone: SimulatedPhone) -> str:
        """Fetch both recipient files, and hear each fingerprint from its holder; the phone's."""
        auth.operator("recipient", "--out", str(self.server_recipient))
        known = json.loads(auth.operator("recipients", "--json"))["recipients"]
        self.read_out["server"] = known[-1]["fingerprint"]
        self.read_out["phone"] = phone.recipient(self.phone_recipient)
        return self.read_out["phone"]

    def deal(self, command: str, *arguments: str, name: str) -> Path:
        """`tandem-keys generate` or `import`: the new ceremony's folder."""
        out = self.folder / name
        recipients = ["--server", str(self.server_recipient), "--device", str(self.phone_recipient)]
        for whose, fingerprint in self.read_out.items():
            recipients += ["--expect", f"{whose}={fingerprint}"]
        people = ["--operator", "Grace Hopper", "--witness", "Alan Turing"]
        run_command("keys", command, *arguments, *recipients, "--rp-id", RP_ID, "--out", str(out), *people)
        return out

    def verified(self, ceremony: Path) -> str:
        """The fingerprint of a ceremony's key, once `tandem-keys verify` is content."""
        document = json.loads(run_command("keys", "verify", str(ceremony), "--json"))
        fingerprint: str = document["ceremony_key"]
        return fingerprint

    def old_key_file(self, name: str) -> Path:
        """A key that a company has used elsewhere, under a passphrase: PEM or PKCS#12 by the name's ending."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        encryption = BestAvailableEncryption(_PASSPHRASE)
        if name.endswith(".p12"):
            content = pkcs12.serialize_key_and_certificates(b"old key", key, None, None, encryption)
        else:
            content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        file = self.folder / name
        file.write_bytes(content)
        (self.folder / "passphrase").write_bytes(_PASSPHRASE)
        return file


def deal_first_key(story: Story, phone: SimulatedPhone, auth: AuthServer, folder: Path) -> Path:
    """From two recipient files to both halves at their holders: the ceremony's folder."""
    machine = DealersMachine(folder / "dealer")

    def recipients() -> Happened:
        return Happened(True, f"read out: {machine.collect(auth, phone)[:9]}…")

    story.step("server and phone give recipient files", recipients)
    ceremonies: list[Path] = []

    def deal() -> Happened:
        ceremonies.append(machine.deal("generate", "--bits", "2048", name="ceremony"))
        return Happened(True, "two sealed halves, a manifest, a report")

    story.step("the team deals a key, offline", deal)
    fingerprints: list[str] = []

    def verify() -> Happened:
        fingerprints.append(machine.verified(ceremonies[0]))
        return Happened(True, f"signed by {fingerprints[0][:9]}…")

    story.step("a witness verifies the ceremony", verify)
    half = _phones_half(ceremonies[0], phone)

    def too_early() -> Happened:
        code = phone.import_share(half)
        return Happened(code == "server_half_missing", f"refused: {code}")

    story.step("the phone's half, before the server's", too_early)
    _deliver(story, phone, auth, ceremonies[0], fingerprints[0])
    return ceremonies[0]


def is_the_dealt_key(story: Story, phone: SimulatedPhone, ceremony: Path) -> None:
    """Whether the newest passkey is the ceremony's key: the id of a dealt key's passkey is its thumbprint."""

    def compare() -> Happened:
        key_id = _phones_half(ceremony, phone).stem
        return Happened(phone.newest_credential_id == key_id, f"key {key_id[:8]}…")

    story.step("the passkey is the dealt key", compare)


def import_old_keys(story: Story, origin: str, phone: SimulatedPhone, auth: AuthServer, folder: Path) -> None:
    """Keys that exist already, from PEM and PKCS#12: a registration and three logins each, then their end."""
    machine = DealersMachine(folder / "dealer-again")
    machine.collect(auth, phone)
    for user, name in (("grace", "old.pem"), ("alan", "old.p12")):
        _one_old_key(story, VisitorClient(origin), phone, auth, machine, user, name)


def _one_old_key(
    story: Story,
    site: VisitorClient,
    phone: SimulatedPhone,
    auth: AuthServer,
    machine: DealersMachine,
    user: str,
    name: str,
) -> None:
    ceremonies: list[Path] = []

    def split() -> Happened:
        file = machine.old_key_file(name)
        passphrase = str(machine.folder / "passphrase")
        ceremonies.append(machine.deal("import", str(file), "--passphrase-file", passphrase, name=f"{user}-ceremony"))
        return Happened(True, "checked, split, both halves sealed")

    story.step(f"the team imports {name}", split)
    _deliver(story, phone, auth, ceremonies[0], machine.verified(ceremonies[0]))
    story.step(f"register {user}", lambda: register(story, site, phone, user))
    is_the_dealt_key(story, phone, ceremonies[0])
    for count in (1, 2, 3):
        story.step(f"log in as {user}, capture {count}", lambda: log_in(story, site, phone, user))

    def revoke() -> Happened:
        ceremony_id = json.loads((ceremonies[0] / "manifest.json").read_text(encoding="utf-8"))["ceremony_id"]
        auth.operator("revoke-keys", "--ceremony", ceremony_id)
        return Happened(True, "every key of it, server's half erased")

    story.step("the operator revokes that ceremony", revoke)
    story.step(f"{user}'s finger, revoked key", lambda: refused(site, phone, "credential_not_usable", user=user))


def _deliver(story: Story, phone: SimulatedPhone, auth: AuthServer, ceremony: Path, fingerprint: str) -> None:
    def server() -> Happened:
        answer = json.loads(auth.operator("import-shares", str(ceremony), "--ceremony-key", fingerprint, "--json"))
        return Happened(len(answer["new"]) == 1, f"{len(answer['new'])} new")

    story.step("the server imports its half", server)

    def device() -> Happened:
        # The phone's owner heard the same fingerprint, so the phone need not take the server's word for the dealer.
        half, manifest = _phones_half(ceremony, phone), ceremony / "manifest.json"
        code = phone.import_share(half, manifest=manifest, ceremony_key=fingerprint)
        return Happened(code == "", code or "both halves fit")

    story.step("the phone imports its half", device)


def _phones_half(ceremony: Path, phone: SimulatedPhone) -> Path:
    [half] = (ceremony / "device" / phone.enrolment_id.hex()).glob("*.share")
    return half
