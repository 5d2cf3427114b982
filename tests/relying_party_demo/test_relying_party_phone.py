"""The simulated phone's pages, with a software phone behind the port, and the site as a real process."""

from __future__ import annotations

import io
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relying_party_authenticator import SoftwareAuthenticator, SoftwarePhone
from relying_party_harness import ORIGIN, Browser, code_of

from relying_party_demo import RelyingPartySettings, create_app
from relying_party_demo.bit_image import bit_image

NewBrowser = Callable[[], Browser]


def test_the_phone_registers_and_signs_in_and_the_page_tells_what_was_seen(
    browser: Browser, phone: SoftwarePhone
) -> None:
    made = browser.post_form("/phone/register", username="ada")
    assert "Accepted." in made.text and browser.user == "ada"
    browser.post_form("/sign-out")

    answer = browser.post_form("/phone/sign-in", username="ada", who="owner")

    assert browser.user == "ada"
    for text in ("37,412 bytes", "66,905 bytes", "oblivious transfer", "12.2 ms", "py_webauthn 3", "RS256", "16.4 ms"):
        assert text in answer.text
    shown = re.search(r'<code class="hex">([0-9a-f]+)</code>', answer.text)
    assert shown and len(shown[1]) == 512
    told = answer.text.split("And the distance?</h2>")[1].split("</section>")[0]
    assert not re.search(r"\d", re.sub(r"<[^>]*>", "", told)), "no number may stand for the distance"


def test_a_sign_in_without_a_name_takes_the_phone_s_account(browser: Browser) -> None:
    browser.post_form("/phone/register", username="ada")
    browser.post_form("/sign-out")

    browser.post_form("/phone/sign-in", username="", who="owner")

    assert browser.user == "ada"


def test_an_impostor_s_finger_is_refused_and_opens_nothing(browser: Browser) -> None:
    browser.post_form("/phone/register", username="ada")
    browser.post_form("/sign-out")

    answer = browser.post_form("/phone/sign-in", username="ada", who="impostor")

    assert "Refused by the phone." in answer.text and "no_match" in answer.text
    assert "Nothing arrived here." in answer.text
    assert browser.user is None


def test_the_site_judges_the_phone_like_any_authenticator(browser: Browser, phone: SoftwarePhone) -> None:
    browser.post_form("/phone/register", username="ada")
    browser.post_form("/sign-out")
    phone.authenticator.counter_step = 0

    answer = browser.post_form("/phone/sign-in", username="ada", who="owner")

    assert "Refused by this site." in answer.text and "did not go up" in answer.text
    assert browser.user is None


def test_a_signed_in_user_gets_one_more_passkey(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    browser.register(authenticator, "ada")

    browser.post_form("/phone/register")

    assert browser.user == "ada"
    assert browser.get("/account").text.count("<li ") == 2


def test_what_was_seen_is_shown_to_its_own_browser_only(browser: Browser, new_browser: NewBrowser) -> None:
    page = browser.post_form("/phone/register", username="ada")
    other = new_browser()

    images = re.findall(r'src="(/phone/seen/[^"]+\.png)"', page.text)
    assert len(images) == 2
    for path in images:
        image = browser.get(path)
        assert image.headers["content-type"] == "image/png"
        assert image.headers["cache-control"] == "no-store"
        assert _pixels(image.content)[:2] == (64, 32)
        assert code_of(other.get(path)) == (404, "not_found")
    assert code_of(other.get(page.url.path)) == (404, "not_found")
    assert code_of(browser.get(page.url.path + "/passwords.png")) == (404, "not_found")


@pytest.mark.parametrize("who", ["", "somebody"])
def test_the_form_must_say_whose_finger(browser: Browser, who: str) -> None:
    assert browser.post_form("/phone/sign-in", who=who).status_code == 400


def test_without_a_phone_its_pages_do_not_exist(tmp_path: Path) -> None:
    app = create_app(RelyingPartySettings(database=tmp_path / "plain.sqlite", origin=ORIGIN))
    with Browser(app, base_url=ORIGIN) as browser:
        assert "imulated" not in browser.get("/").text
        assert code_of(browser.get("/phone")) == (404, "not_found")
        assert browser.post_form("/phone/sign-in", who="owner").status_code == 404


@given(st.binary(min_size=1, max_size=64), st.integers(1, 80), st.data())
def test_a_bit_image_shows_the_bits(bits: bytes, width: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(bits) * 8))

    image = bit_image(bits, count, width=width, zero=(255, 255, 255), one=(1, 2, 3))

    got_width, height, pixels = _pixels(image)
    expected = [bits[i // 8] >> i % 8 & 1 for i in range(count)]
    assert (got_width, height) == (width, -(-count // width))
    assert pixels == expected + [0] * (width * height - count)


def test_a_bit_image_needs_its_bits() -> None:
    for bits, count, width in ((b"", 1, 8), (b"\0", 9, 8), (b"\0", 0, 8), (b"\0", 8, 0)):
        with pytest.raises(ValueError):
            bit_image(bits, count, width=width, zero=(0, 0, 0), one=(1, 1, 1))


def test_the_command_serves_the_site(tmp_path: Path) -> None:
    """The real server over a real socket: register, sign out, sign in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    origin = f"http://localhost:{port}"
    arguments = ["--port", str(port), "--database", str(tmp_path / "served.sqlite")]
    server = subprocess.Popen([sys.executable, "-m", "relying_party_demo", *arguments], stdout=subprocess.PIPE)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": f"localhost:{port}"}) as client:
            _wait_until_it_answers(client, server)
            authenticator = SoftwareAuthenticator()

            def post(path: str, body: object) -> httpx.Response:
                # The jar keeps cookies by the host name in the URL, which is the address here.
                token = client.get("/session").json()["csrf"]
                return client.post(path, json=body, headers={"X-CSRF-Token": token, "Origin": origin})

            options = post("/register/options", {"username": "ada"}).json()
            assert post("/register/verify", authenticator.create(options, origin)).status_code == 200
            token = client.get("/session").json()["csrf"]
            assert client.post("/sign-out", data={"csrf": token}).status_code == 303
            options = post("/login/options", {"username": "ada"}).json()
            answer = post("/login/verify", authenticator.get(options, origin))

            assert answer.json()["user"] == "ada"
            assert client.get("/account").status_code == 200
            long = client.post("/login/options", content=_endless(), headers={"Content-Type": "application/json"})
            assert code_of(long) == (413, "too_large")
    finally:
        server.terminate()
        server.communicate(timeout=20)


def _wait_until_it_answers(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            client.get("/healthz")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server did not answer")


def _endless() -> io.BytesIO:
    return io.BytesIO(b" " * 70_000)


def _pixels(image: bytes) -> tuple[int, int, list[int]]:
    """A reader of its own for the PNG files of the site: checks every chunk and returns the palette indices."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        kind, content = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", image[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + content)
        chunks[kind] = content
        at += 12 + length
    width, height, depth, colour_type = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour_type) == (1, 3) and len(chunks[b"PLTE"]) == 6 and list(chunks)[-1] == b"IEND"
    rows, stride = zlib.decompress(chunks[b"IDAT"]), 1 + (width + 7) // 8
    assert len(rows) == height * stride
    pixels = []
    for row in range(height):
        line = rows[row * stride : (row + 1) * stride]
        assert line[0] == 0
        pixels += [line[1 + x // 8] >> (7 - x % 8) & 1 for x in range(width)]
    return width, height, pixels
