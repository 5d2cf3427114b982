"""The pages for a visitor's own face in a real Chromium, whose camera plays photographs.

Runs where Playwright (`pip install playwright`) and a Chromium are at hand, which the project needs for nothing else.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from relying_party_authenticator import SoftwarePhone

sys.path.append(str(Path(__file__).parents[1] / "end_to_end"))

from face_operator import OperatorInTheTest
from real_server import thread_server

from device_sdk.biometrics.face.photographs import load_photographs
from relying_party_demo import RelyingPartySettings, create_app
from relying_party_demo.face_phones import VisitorsFacePhones
from relying_party_demo.local_stack import RelyingPartyServer, free_port

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/orl_faces_s01_s20.npz"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not beside this checkout"),
]
ANN, BEN = 8, 4
WIDE = {"viewport": {"width": 1100, "height": 900}, "color_scheme": "light"}
NARROW = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
OpenPage = Callable[..., Any]


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    listener = free_port()
    settings = RelyingPartySettings(
        database=tmp_path / "site.sqlite", origin=f"http://localhost:{listener.getsockname()[1]}"
    )
    with (
        thread_server(tmp_path / "server") as server,
        closing(VisitorsFacePhones(server.url, OperatorInTheTest(server), tmp_path / "faces")) as faces,
        RelyingPartyServer(listener, create_app(settings, SoftwarePhone(), faces)),
    ):
        yield settings.origin


@pytest.fixture
def photographs(tmp_path: Path) -> Callable[..., list[str]]:
    """The named pictures of a subject as files."""
    images = load_photographs(PHOTOGRAPHS)

    def files(subject: int, *numbers: int, light: float = 1.0) -> list[str]:
        paths = []
        for number in numbers:
            paths.append(str(tmp_path / f"{subject}-{number}-{light}.jpg"))
            picture = Image.fromarray((images[subject, number] * light).astype(np.uint8))
            picture.resize((4 * picture.width, 4 * picture.height)).save(paths[-1])
        return paths

    return files


@contextmanager
def browsing(folder: Path, subject: int, **context: Any) -> Iterator[Any]:
    """A page of a browser whose camera shows a subject. A fault of the script, or a breach of the policy, fails."""
    film = folder / f"{subject}.mjpeg"
    film.write_bytes(b"".join(_frame(picture) for picture in load_photographs(PHOTOGRAPHS)[subject, 4:]))
    camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    arguments = ["--no-sandbox", *camera, f"--use-file-for-fake-video-capture={film}"]
    faults: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            page = browser.new_context(**context).new_page()
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda told: faults.append(told.text) if "Content Security" in told.text else None)
            yield page
        finally:
            browser.close()
    assert not faults


def test_pictures_then_the_camera_and_another_person_is_refused(
    origin: str, tmp_path: Path, photographs: Callable[..., list[str]]
) -> None:
    with browsing(tmp_path, ANN, **WIDE) as page:
        page.goto(f"{origin}/phone/pictures")
        page.get_by_label("Account name").fill("ann")
        # Two and a dark one, which alone is then exchanged.
        page.get_by_label("Pictures of your face").set_input_files(
            [*photographs(ANN, 0, 1), *photographs(ANN, 2, light=0.12)]
        )
        page.get_by_role("button", name="Enrol and create the account").click()
        page.get_by_text("The face is too dark; turn towards the light.").wait_for()
        page.get_by_role("button", name="Take out picture 3").press("Enter")
        page.get_by_text("2 pictures, 1 more needed.").wait_for()
        page.get_by_label("Pictures of your face").set_input_files(photographs(ANN, 2))
        page.get_by_role("button", name="Enrol and create the account").click()
        page.wait_for_url("**/phone/seen/*")
        assert "You are signed in as ann" in page.inner_text(".notice")

        for pictures, expected in ((photographs(ANN, 5), "Accepted."), (photographs(BEN, 5), "Refused by the phone.")):
            if page.get_by_role("button", name="Sign out").count():
                page.get_by_role("button", name="Sign out").click()
            page.goto(f"{origin}/phone/pictures")
            page.get_by_label("A picture of your face").first.set_input_files(pictures)
            page.get_by_role("button", name="Sign in with this picture").click()
            page.wait_for_url("**/phone/seen/*")
            assert expected in page.inner_text(".notice")

        page.goto(f"{origin}/phone/camera")
        _look_into_the_camera(page)
        assert "Accepted." in page.inner_text(".notice")
        page.get_by_role("button", name="Sign out").click()
        cookies = page.context.cookies()

    with browsing(tmp_path, BEN, **NARROW) as page:
        page.context.add_cookies(cookies)
        page.goto(f"{origin}/phone/camera")
        _look_into_the_camera(page)
        assert "Refused by the phone." in page.inner_text(".notice")
        page.goto(f"{origin}/account")
        assert page.url == f"{origin}/"


def test_a_camera_enrols_on_a_narrow_screen(origin: str, tmp_path: Path) -> None:
    with browsing(tmp_path, ANN, **NARROW) as page:
        page.goto(f"{origin}/phone/camera")
        page.get_by_label("Account name").fill("ann")
        page.get_by_role("button", name="Start the camera").click()
        for taken in ("1 picture, 2 more needed.", "2 pictures, 1 more needed.", "3 pictures: enough"):
            page.get_by_role("button", name="Take a picture", exact=True).click()
            page.get_by_text(taken).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.get_by_role("button", name="Enrol and create the account").click()
        page.wait_for_url("**/phone/seen/*")
        assert "You are signed in as ann" in page.inner_text(".notice")


def test_pictures_need_no_script(origin: str, tmp_path: Path, photographs: Callable[..., list[str]]) -> None:
    with browsing(tmp_path, ANN, java_script_enabled=False) as page:
        page.goto(f"{origin}/phone/pictures")
        for third in (photographs(ANN, 2, light=0.12), photographs(ANN, 2)):
            if third[0].endswith("1.0.jpg"):
                assert "Picture 3: The face is too dark" in page.inner_text("[role=alert]")
                assert page.get_by_label("Account name").input_value() == "ann"
            else:
                page.get_by_label("Account name").fill("ann")
            page.get_by_label("Pictures of your face").set_input_files([*photographs(ANN, 0, 1), *third])
            page.get_by_role("button", name="Enrol and create the account").click()

        assert "You are signed in as ann" in page.inner_text(".notice")


def _look_into_the_camera(page: Any) -> None:
    page.get_by_role("button", name="Start the camera").first.click()
    page.locator("video:not([hidden])").wait_for()
    page.get_by_role("button", name="Take a picture and sign in").click()
    page.wait_for_url("**/phone/seen/*")


def _frame(picture: np.ndarray) -> bytes:
    """One picture of the film: the photograph in the middle of 640 × 480 pixels."""
    frame = Image.new("L", (640, 480), 120)
    frame.paste(Image.fromarray(picture).resize((368, 448)), (136, 16))
    stream = io.BytesIO()
    frame.convert("RGB").save(stream, "JPEG", quality=95)
    return stream.getvalue()
