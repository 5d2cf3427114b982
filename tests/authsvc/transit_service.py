"""The two calls of a transit engine that the example command makes, over HTTP with a real AES-256-GCM behind them.

Nobody runs Vault for these tests. What it answers is taken from its published API: ciphertexts in base64 behind a
prefix with the key's version, status 400 for what does not open, 403 for a token that may not.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "s.token-of-the-tests"


class TransitService:
    """Keys by version; every request seen, as (path, body)."""

    def __init__(self) -> None:
        self.versions = {1: AESGCM(os.urandom(32)), 2: AESGCM(os.urandom(32))}
        self.seen: list[tuple[str, dict[str, object]]] = []
        self.status: int | None = None
        """Answered to everything, where set."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.seen.append((self.path, body))
                status, answer = service.answer(self.path, self.headers["X-Vault-Token"], body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, path: str, token: str, body: dict[str, str]) -> tuple[int, dict[str, object]]:
        if self.status is not None:
            return self.status, {"errors": []}
        if token != TOKEN:
            return 403, {"errors": ["permission denied"]}
        context = base64.b64decode(body["associated_data"])
        if path == "/v1/transit/encrypt/tandem":
            version, nonce = int(body["key_version"]), os.urandom(12)
            sealed = nonce + self.versions[version].encrypt(nonce, base64.b64decode(body["plaintext"]), context)
            return 200, {"data": {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}"}}
        assert path == "/v1/transit/decrypt/tandem"
        _, version_text, text = body["ciphertext"].split(":")
        try:
            sealed = base64.b64decode(text, validate=True)
            opened = self.versions[int(version_text[1:])].decrypt(sealed[:12], sealed[12:], context)
        except (InvalidTag, ValueError):
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": base64.b64encode(opened).decode()}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
