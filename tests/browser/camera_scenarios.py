"""Faces: a vault enrolled from photographs, the camera fed from a file, and a picture chosen by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tests.browser.parts import Agent, enrolled
from tests.browser.stage import Stage, told

_ENROLLED, _ON_CAMERA, _CHOSEN = (0, 1, 2), 5, 6
_SIDE = 480


def write_pictures(faces: Path, folder: Path) -> Path:
    """Pictures of the file's first person and of another; the camera's video. The video."""
    images = np.load(faces, allow_pickle=False)["images"]
    for number in (*_ENROLLED, _CHOSEN):
        _picture(images[0][number]).save(folder / f"ann-{number}.png")
    _picture(images[3][0]).save(folder / "stranger.png")
    frame = io.BytesIO()
    wide = Image.new("RGB", (640, 480), (90, 100, 110))
    wide.paste(_picture(images[0][_ON_CAMERA]), (80, 0))
    wide.save(frame, "JPEG", quality=95)
    video = folder / "camera.mjpeg"
    video.write_bytes(frame.getvalue() * 30)
    return video


def camera(stage: Stage) -> None:
    """Register with a camera picture; sign in with a chosen one, after a stranger's was refused."""
    folder = stage.folder
    code = stage.auth.operator("code", "--label", "face")
    pictures = [folder / f"ann-{number}.png" for number in _ENROLLED]
    vault = enrolled(stage.auth.url, code, folder, "face", *pictures, "--profile", "face-2048", agent_options=[])
    with Agent(vault) as agent:
        stage.browser.pair(agent.pairing_code).close()
        whole, stage.agent = stage.agent, agent
        try:
            _with_faces(stage)
        finally:
            stage.agent = whole
    stage.browser.pair(stage.agent.pairing_code).close()


def _with_faces(stage: Stage) -> None:
    page = stage.page(f"{stage.demo}/register")
    page.fill("#username", "face")
    window = stage.ask(page, lambda: page.click("form[data-passkey] button"))
    stage.screen(window, "consent-pictures")
    assert not window.is_enabled("#allow")
    window.click("#camera")
    window.wait_for_selector("#allow:enabled")
    window.wait_for_function("() => document.getElementById('video').videoWidth > 0")
    window.wait_for_timeout(500)
    stage.screen(window, "consent-camera")
    window.click("#allow")
    page.wait_for_url("**/account")

    stage.browser.context.clear_cookies()
    page, window = stage.asking_to_sign_in("face")
    window.set_input_files("#file", stage.folder / "stranger.png")
    window.wait_for_selector("#allow:enabled")
    window.click("#allow")
    told(window, "#message", "did not match")
    window.wait_for_selector("#allow:disabled")  # another picture is wanted
    blank = stage.folder / "blank.png"
    Image.new("RGB", (400, 300), (200, 200, 200)).save(blank)
    window.set_input_files("#file", blank)
    window.click("#allow:enabled")
    told(window, "#message", "no face in the picture")
    stage.screen(window, "consent-no-face")
    window.set_input_files("#file", stage.folder / f"ann-{_CHOSEN}.png")
    window.wait_for_timeout(200)
    stage.screen(window, "consent-picture-chosen")
    window.click("#allow")
    page.wait_for_url("**/account")


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
