"""A visitor's own face in the demonstration: photographs, the real encoder, the real server, the site's real forms."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from face_operator import OperatorInTheTest
from PIL import Image, ImageFilter
from real_server import Database, ThreadServer, thread_server

from device_sdk.biometrics.face.photographs import load_photographs
from relying_party_demo import RelyingPartySettings, create_app, face_phones
from relying_party_demo.face_phones import VisitorsFacePhones

sys.path.append(str(Path(__file__).parents[1] / "relying_party_demo"))

from relying_party_harness import ORIGIN, Browser, code_of

PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/orl_faces_s01_s20.npz"
pytestmark = pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not beside this checkout")

JSON = "application/json"
ANN, BEN = 8, 4
"""Subjects of the file."""

Picture = Callable[..., bytes]
Spoil = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Demonstration:
    server: ThreadServer
    faces: VisitorsFacePhones
    folder: Path
    new_browser: Callable[[], Browser]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def demonstration(server: ThreadServer, tmp_path: Path) -> Iterator[Demonstration]:
    faces = VisitorsFacePhones(server.url, OperatorInTheTest(server), tmp_path / "faces")
    settings = RelyingPartySettings(database=tmp_path / "site.sqlite", origin=ORIGIN, attestation="direct")
    app = create_app(settings, _NoPhone(), faces)
    opened: list[Browser] = []

    def new_browser() -> Browser:
        opened.append(Browser(app, base_url=ORIGIN))
        return opened[-1]

    yield Demonstration(server, faces, tmp_path, new_browser)
    for browser in opened:
        browser.close()
    faces.close()


@pytest.fixture(scope="module")
def picture() -> Picture:
    """A photograph by subject and number as JPEG of the size a camera might give; `spoil` is applied to its pixels."""
    images = load_photographs(PHOTOGRAPHS)

    def one(subject: int, number: int, spoil: Spoil = lambda pixels: pixels, *, scale: int = 4) -> bytes:
        stream = io.BytesIO()
        image = Image.fromarray(spoil(images[subject, number]))
        image.resize((scale * image.width, scale * image.height)).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    return one


def enrol(browser: Browser, pictures: list[bytes], name: str = "ann", accept: str = JSON) -> httpx.Response:
    return browser.post_pictures("/phone/pictures/enrol", *pictures, username=name, accept=accept)


def test_a_visitor_enrols_and_signs_in_and_another_person_is_refused(
    demonstration: Demonstration, picture: Picture
) -> None:
    browser = demonstration.new_browser()
    made = enrol(browser, [picture(ANN, number) for number in range(3)])
    assert "Accepted." in made.text and browser.user == "ann"
    browser.post_form("/sign-out")

    other = browser.post_pictures("/phone/pictures/sign-in", picture(BEN, 5))
    after_other = browser.user
    own = browser.post_pictures("/phone/camera/sign-in", picture(ANN, 5))

    assert "no_match" in other.text and "Nothing arrived here." in other.text and after_other is None
    assert "Accepted." in own.text and "py_webauthn" in own.text and browser.user == "ann"
    assert browser.get(f"{own.url.path}/device.png").status_code == 200
    assert browser.get(f"{own.url.path}/server.png").status_code == 404


def two_people(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, pixels[:, ::-1]], axis=1)


def far_away(pixels: np.ndarray) -> np.ndarray:
    canvas = np.full((224, 184), 128, dtype=np.uint8)
    canvas[60:108, 60:100] = np.asarray(Image.fromarray(pixels).resize((40, 48)))
    return canvas


def blurred(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4)))


def test_each_unusable_picture_is_named_and_costs_nothing(demonstration: Demonstration, picture: Picture) -> None:
    """Neither a one-time code nor an attempt: what is told to the person is judged before anything is sent."""
    browser = demonstration.new_browser()
    bomb = _claims_to_be(60_000, 60_000)
    pictures = [
        picture(ANN, 0),
        picture(ANN, 1, lambda pixels: np.full_like(pixels, 128)),
        picture(ANN, 1, two_people),
        picture(0, 0, far_away, scale=1),
        picture(ANN, 1, lambda pixels: (pixels * 0.12).astype(np.uint8)),
        picture(0, 0, blurred),
        b"no picture",
        bomb,
    ]
    before = demonstration.server.database.dump()

    answer = enrol(browser, pictures)

    assert code_of(answer) == (422, "pictures_refused")
    codes = {one["position"]: one["code"] for one in answer.json()["pictures"]}
    assert codes == {
        2: "no_face",
        3: "several_faces",
        4: "face_too_small",
        5: "face_too_dark",
        6: "face_blurred",
        7: "image_unreadable",
        8: "image_unreadable",
    }
    for one in answer.json()["pictures"]:
        assert one["detail"][0].isupper() and one["detail"].endswith(".")
    assert demonstration.server.database.dump() == before
    assert not (demonstration.folder / "faces").exists()


def test_an_unusable_picture_at_a_sign_in_is_no_attempt(demonstration: Demonstration, picture: Picture) -> None:
    browser = demonstration.new_browser()
    enrol(browser, [picture(ANN, number) for number in range(3)])
    browser.post_form("/sign-out")
    before = demonstration.server.database.dump()

    dark = browser.post_pictures(
        "/phone/camera/sign-in", picture(ANN, 4, lambda pixels: (pixels * 0.12).astype(np.uint8)), accept=JSON
    )

    assert [one["code"] for one in dark.json()["pictures"]] == ["face_too_dark"]
    assert demonstration.server.database.dump() == before
    assert "Accepted." in browser.post_pictures("/phone/camera/sign-in", picture(ANN, 4)).text


def test_pictures_of_two_people_do_not_enrol(demonstration: Demonstration, picture: Picture) -> None:
    """A template between two people would let in both."""
    browser = demonstration.new_browser()
    before = demonstration.server.database.dump()

    answer = enrol(browser, [picture(ANN, 0), picture(ANN, 1), picture(BEN, 0), picture(BEN, 1)])

    assert code_of(answer) == (422, "pictures_refused")
    assert answer.json()["pictures"]
    assert {one["code"] for one in answer.json()["pictures"]} == {"inconsistent_captures"}
    assert demonstration.server.database.dump() == before


def test_a_stray_picture_does_not_speak_for_the_person(demonstration: Demonstration, picture: Picture) -> None:
    """It is left out of the template, and the passkey is made with one that is not."""
    browser = demonstration.new_browser()

    made = enrol(browser, [picture(BEN, 0), *(picture(ANN, number) for number in range(4))])
    browser.post_form("/sign-out")
    stray = browser.post_pictures("/phone/pictures/sign-in", picture(BEN, 0))

    assert "Accepted." in made.text
    assert "no_match" in stray.text


def test_no_picture_is_stored_or_logged(
    demonstration: Demonstration, picture: Picture, caplog: pytest.LogCaptureFixture
) -> None:
    """The page says so. Files opened for writing are watched, and what lies on disk afterwards is searched.

    The last picture is larger than what frameworks keep in memory.
    """
    caplog.set_level(logging.DEBUG)
    browser = demonstration.new_browser()
    pictures = [picture(ANN, number) for number in range(4)]
    pictures[3] += os.urandom(2 << 20)  # which decoders ignore
    assert min(map(len, pictures)) > 10_000

    with _files_written() as written:
        enrol(browser, pictures[:3])
        browser.post_form("/sign-out")
        browser.post_pictures("/phone/pictures/sign-in", pictures[3])
        browser.post_pictures("/phone/pictures/sign-in", b"damaged" + pictures[3])

    assert browser.user == "ann"
    vault = {"vault.key", "vault.lock", "vault.new"}
    assert vault <= {Path(path).name for path in written} <= {*vault, "authsvc.db-turns"}, written
    parts = [one[at : at + 24] for one in pictures for at in range(2000, 12_000, 997)]
    for folder in (demonstration.folder, demonstration.server.database.path.parent):
        for path in folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not any(part in content for part in parts), path
    assert not any(str(part)[2:-1] in caplog.text for part in parts)


def test_a_phone_that_goes_is_erased_on_both_sides(
    demonstration: Demonstration, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one used longest ago makes room for another, and a visitor may have theirs forgotten."""
    monkeypatch.setattr(face_phones, "PHONES_MAX", 1)
    first, second = demonstration.new_browser(), demonstration.new_browser()
    enrol(first, [picture(ANN, number) for number in range(3)])
    one = demonstration.server.database.rows("SELECT id FROM enrolments")

    enrol(second, [picture(BEN, number) for number in range(3)], "ben")

    other = demonstration.server.database.rows("SELECT id FROM enrolments")
    assert second.user == "ben"
    assert len(other) == len(one) and other != one
    assert len(list((demonstration.folder / "faces").iterdir())) == 1
    assert code_of(first.post_pictures("/phone/camera/sign-in", picture(ANN, 3), accept=JSON))[0] == 409

    second.post_form("/phone/forget")

    assert len(demonstration.server.database.rows("SELECT id FROM enrolments")) == len(one) - 1
    assert not list((demonstration.folder / "faces").iterdir())


def test_where_the_server_is_away_the_phone_says_so(
    tmp_path: Path, server: ThreadServer, demonstration: Demonstration, picture: Picture
) -> None:
    away = VisitorsFacePhones("http://127.0.0.1:9", OperatorInTheTest(server), tmp_path / "away")
    app = create_app(RelyingPartySettings(database=tmp_path / "away.sqlite", origin=ORIGIN), _NoPhone(), away)
    with Browser(app, base_url=ORIGIN) as browser:
        answer = enrol(browser, [picture(ANN, number) for number in range(3)])

    assert code_of(answer) == (503, "phone_failed")
    assert not list((tmp_path / "away").iterdir())


def test_the_command_serves_faces_and_leaves_nothing_behind(tmp_path: Path, picture: Picture) -> None:
    """`make demo-web ARGS="--faces"`, ended by a signal: the page promises that its folder goes."""
    command = [sys.executable, "-m", "relying_party_demo.web", "--faces"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        told = server.stdout.readline()
        match = re.search(r"http://localhost:(\d+)", told)
        assert match, told
        with httpx.Client(base_url=f"http://127.0.0.1:{match[1]}", timeout=60) as client:
            client.headers["Host"] = f"localhost:{match[1]}"
            token = client.get("/session").json()["csrf"]
            files = [("pictures", ("me.jpg", picture(ANN, number))) for number in range(3)]
            answer = client.post("/phone/camera/enrol", data={"csrf": token, "username": "ann"}, files=files)
            assert answer.status_code == 303
            seen = client.get(answer.headers["location"]).text
            token = client.get("/session").json()["csrf"]  # another one, since she is signed in
            forgotten = client.post("/phone/forget", data={"csrf": token})
        assert "Accepted." in seen and forgotten.status_code == 303
        [database] = tmp_path.rglob("authsvc.db")
        assert [row["label"] for row in Database(database).rows("SELECT label FROM enrolments")] == ["simulated phone"]
        assert list(tmp_path.rglob("vault"))
    finally:
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=30)
    assert server.returncode == 0 and "Traceback" not in errors, errors
    assert not list(tmp_path.iterdir())


def test_without_the_packages_the_command_says_what_is_missing() -> None:
    script = (
        "import sys; sys.modules['dlib'] = None\n"
        "sys.argv = ['web', '--faces']\n"
        "from relying_party_demo.web import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "tandem-auth[face]" in done.stderr and "Traceback" not in done.stderr


class _NoPhone:
    """Behind the pages of the simulated sensor, which are not visited here."""

    def register(self, *_: Any) -> Any:
        raise NotImplementedError

    sign_in = register


def _claims_to_be(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes whose header speaks of gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


_written: list[set[str]] = []


def _note_writing(event: str, arguments: tuple[Any, ...]) -> None:
    if _written and event == "open":
        path, _, flags = arguments
        # An int is a descriptor, whose path was noted when it was opened.
        if flags & (os.O_WRONLY | os.O_RDWR) and not isinstance(path, int):
            _written[-1].add(os.fsdecode(path))


sys.addaudithook(_note_writing)  # for good: there is no way to take one away


@contextmanager
def _files_written() -> Iterator[set[str]]:
    """Paths of the files that this process opens for writing meanwhile, temporary ones without a name too."""
    _written.append(set())
    try:
        yield _written[-1]
    finally:
        _written.pop()
