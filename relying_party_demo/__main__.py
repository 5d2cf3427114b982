"""`python -m relying_party_demo`: the relying party by itself, for the passkeys of your own browser."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from relying_party_demo.app import create_app
from relying_party_demo.settings import RelyingPartySettings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m relying_party_demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="on this machine only (default 8080)")
    parser.add_argument("--database", type=Path, default=Path("relying_party.sqlite"))
    parser.add_argument("--origin", help="as browsers show it (default http://localhost:PORT)")
    parser.add_argument("--rp-id", default="localhost", help="host of the origin or a parent domain of it")
    parser.add_argument("--name", default="Tandem demo", help="the site's name on its pages and in prompts")
    chosen = parser.parse_args()
    try:
        settings = RelyingPartySettings(
            database=chosen.database,
            origin=chosen.origin or f"http://localhost:{chosen.port}",
            rp_id=chosen.rp_id,
            rp_name=chosen.name,
        )
    except ValueError as error:
        parser.error(str(error))
    app = create_app(settings)
    print(f"Open {settings.origin} in a browser. Ctrl-C ends it.")
    uvicorn.run(app, host="127.0.0.1", port=chosen.port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main()
