"""The yardstick: a server that signs a 32-byte hash with a whole RSA key, behind the same HTTP stack.

Same routes code, worker threads, uvicorn options and request signatures as the authentication server; no store,
no protocol. The signature is OpenSSL's, with the Chinese remainder theorem, as anybody would run it.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.applications import Starlette

from authsvc.api.protocol import Endpoint, ProtocolRoutes, UseCase
from authsvc.app import create_context
from authsvc.services.context import ServiceContext, SignedRequest
from authsvc.services.frame import verify
from authsvc.settings import load_settings

HASH_BYTES = 32
_MAX_BODY_BYTES = 1024


def path(modulus_bits: int) -> str:
    """Where a hash is signed with a key of that length."""
    return f"/v1/plain-{modulus_bits}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until terminated. The requests' P-256 point is an argument, since there is nobody to enrol."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--point", required=True, help="65 bytes in hexadecimal")
    parser.add_argument("--modulus-bits", type=int, nargs="+", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    options = parser.parse_args(arguments)
    settings = load_settings()
    context = create_context(settings)
    point = bytes.fromhex(options.point)
    endpoints = [Endpoint(path(bits), _signer(bits, point), _MAX_BODY_BYTES) for bits in options.modulus_bits]
    # The protocol is named, or the event loop does not switch Nagle's algorithm off.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with ThreadPoolExecutor(settings.worker_threads) as workers, listener:
        listener.bind(("127.0.0.1", 0))
        application = ProtocolRoutes(Starlette(), context, endpoints, workers, max_queued=64, body_timeout_s=30.0)
        config = uvicorn.Config(
            application, access_log=False, log_level="warning", server_header=False, proxy_headers=False
        )
        _Server(config, options.ready_file).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, writing its address into a file once it listens."""

    def __init__(self, config: uvicorn.Config, ready_file: Path) -> None:
        super().__init__(config)
        self._ready_file = ready_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the file."""
        await super().startup(sockets=sockets)
        assert sockets
        partial = self._ready_file.with_name(self._ready_file.name + ".part")
        partial.write_text(f"http://127.0.0.1:{sockets[0].getsockname()[1]}\n", encoding="utf-8")
        partial.replace(self._ready_file)


def _signer(modulus_bits: int, point: bytes) -> UseCase:
    key = rsa.generate_private_key(public_exponent=65537, key_size=modulus_bits)

    def sign(context: ServiceContext, request: SignedRequest) -> bytes:
        verify(context, request, lambda _key_id: point)
        return key.sign(request.body, padding.PKCS1v15(), Prehashed(SHA256()))

    return sign


if __name__ == "__main__":
    main()
