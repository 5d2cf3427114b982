"""`make demo-web`: both servers stay up, with a simulated phone behind the pages."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from relying_party_demo.app import create_app
from relying_party_demo.face_phone_port import FacesUnavailable
from relying_party_demo.face_phones import VisitorsFacePhones, load_face_models
from relying_party_demo.local_stack import AuthServer, RelyingPartyServer, StackError, free_port
from relying_party_demo.phone import SimulatedPhone
from relying_party_demo.settings import RelyingPartySettings


@dataclass(frozen=True, slots=True)
class OperatorAtTheServer:
    """`face_phones.Operator` by the commands that an operator types."""

    server: AuthServer

    def enrolment_code(self) -> str:
        return self.server.operator("code", "--label", "a visitor's phone")

    def erase(self, enrolment_id: bytes) -> None:
        self.server.operator("erase", enrolment_id.hex(), "--confirm", enrolment_id.hex())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-web ARGS=…", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the relying party; default: a free one")
    parser.add_argument("--faces", action="store_true", help="visitors may also show their face (installs 130 MB)")
    chosen = parser.parse_args()
    # Ended either way, the folder goes, and with it what is left of faces.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tandem-demo-") as name:
        folder = Path(name)
        try:
            if chosen.faces:
                load_face_models()
            listener = free_port(chosen.port)
            settings = RelyingPartySettings(
                database=folder / "relying_party.sqlite",
                origin=f"http://localhost:{listener.getsockname()[1]}",
                attestation="direct",
            )
            with AuthServer(folder, rp_id=settings.rp_id) as auth:
                code = auth.operator("code", "--label", "simulated phone")
                phone = SimulatedPhone.enrolled(auth.url, code, folder / "phone", server_view=auth.template_share)
                with (
                    closing(phone),
                    _faces(auth, folder / "faces", chosen.faces) as faces,
                    RelyingPartyServer(listener, create_app(settings, phone, faces)) as site,
                ):
                    print(f"Open {settings.origin} in a browser. Ctrl-C ends it.", flush=True)
                    site.wait()
        except (StackError, FacesUnavailable) as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print()
    return 0


@contextmanager
def _faces(auth: AuthServer, folder: Path, wanted: bool) -> Iterator[VisitorsFacePhones | None]:
    if not wanted:
        yield None
        return
    with closing(VisitorsFacePhones(auth.url, OperatorAtTheServer(auth), folder)) as faces:
        yield faces


if __name__ == "__main__":
    sys.exit(main())
