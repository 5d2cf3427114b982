"""`make demo-web`: both servers stay up, with a simulated phone behind the pages."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from relying_party_demo.app import create_app
from relying_party_demo.local_stack import AuthServer, RelyingPartyServer, StackError, free_port
from relying_party_demo.phone import SimulatedPhone
from relying_party_demo.settings import RelyingPartySettings


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-web ARGS=…", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the relying party; default: a free one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tandem-demo-") as name:
        folder = Path(name)
        try:
            listener = free_port(chosen.port)
            settings = RelyingPartySettings(
                database=folder / "relying_party.sqlite",
                origin=f"http://localhost:{listener.getsockname()[1]}",
                attestation="direct",
            )
            with AuthServer(folder, rp_id=settings.rp_id) as auth:
                code = auth.operator("code", "--label", "simulated phone")
                phone = SimulatedPhone.enrolled(auth.url, code, folder / "phone", server_view=auth.template_share)
                try:
                    with RelyingPartyServer(listener, create_app(settings, phone)) as site:
                        print(f"Open {settings.origin} in a browser. Ctrl-C ends it.", flush=True)
                        site.wait()
                finally:
                    phone.close()
        except StackError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
