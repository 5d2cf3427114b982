"""The pages and forms for a visitor's own face, with software phones behind the port: what they take and refuse."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from relying_party_authenticator import SoftwareAuthenticator, SoftwareFacePhones, SoftwarePhone
from relying_party_harness import ORIGIN, Browser, code_of

from relying_party_demo import RelyingPartySettings, create_app
from relying_party_demo.errors import Malformed, Refusal
from relying_party_demo.http_uploads import PICTURE_BYTES_MAX, parse_picture_form

NewBrowser = Callable[[], Browser]
JSON = "application/json"
SOURCES = ["pictures", "camera"]


@pytest.fixture
def enrolled(browser: Browser) -> Browser:
    """Ada's browser; she is signed out again."""
    browser.post_pictures("/phone/pictures/enrol", b"ada", b"ada", b"ada", username="ada")
    assert browser.user == "ada"
    browser.post_form("/sign-out")
    return browser


@pytest.mark.parametrize("source", SOURCES)
def test_a_visitor_enrols_signs_in_and_another_face_is_refused(browser: Browser, source: str) -> None:
    made = browser.post_pictures(f"/phone/{source}/enrol", b"ada", b"ada", b"ada", username="ada")
    assert "Accepted." in made.text and browser.user == "ada"
    browser.post_form("/sign-out")

    page = browser.get(f"/phone/{source}").text
    other = browser.post_pictures(f"/phone/{source}/sign-in", b"eve")
    user_after_other = browser.user
    own = browser.post_pictures(f"/phone/{source}/sign-in", b"ada", username="ada")

    assert f'action="/phone/{source}/sign-in"' in page and f'action="/phone/{source}/enrol"' not in page
    assert "Refused by the phone." in other.text and "no_match" in other.text and user_after_other is None
    assert "Accepted." in own.text and browser.user == "ada"
    assert f'href="/phone/{source}">Use the phone again' in own.text


def test_a_real_person_s_two_shares_never_meet_on_a_page(enrolled: Browser) -> None:
    """Laid over each other they are the template."""
    page = enrolled.post_pictures("/phone/pictures/sign-in", b"ada").text

    assert len(re.findall(r"<img src=\"/phone/seen/[^\"]*\.png\"", page)) == 1 and "/server.png" not in page
    assert "with the phone’s share it would be your template" in page


def test_a_phone_is_its_browser_s_own(enrolled: Browser, new_browser: NewBrowser) -> None:
    other = new_browser()
    other.get("/")

    answer = other.post_pictures("/phone/pictures/sign-in", b"ada", username="ada", accept=JSON)

    assert code_of(answer) == (409, "no_face_enrolled") and other.user is None
    assert 'action="/phone/pictures/enrol"' in other.get("/phone/pictures").text


def test_an_enrolled_phone_makes_further_accounts_and_passkeys(enrolled: Browser, faces: SoftwareFacePhones) -> None:
    again = enrolled.post_pictures("/phone/pictures/enrol", *[b"eve"] * 3, username="eve", accept=JSON)
    enrolled.post_pictures("/phone/camera/register", b"ada", username="ada2")

    assert code_of(again) == (409, "face_enrolled")
    assert enrolled.user == "ada2"
    enrolled.post_pictures("/phone/camera/register", b"ada")
    assert enrolled.get("/account").text.count("<li ") == 2
    assert len(faces.phones) == 1


def test_a_signed_in_user_adds_a_passkey_by_enrolling(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    browser.register(authenticator, "ada")

    assert 'name="username"' not in browser.get("/phone/pictures").text
    browser.post_pictures("/phone/pictures/enrol", b"ada", b"ada", b"ada")

    assert browser.get("/account").text.count("<li ") == 2


def test_a_face_is_forgotten_on_request(enrolled: Browser, faces: SoftwareFacePhones) -> None:
    answer = enrolled.post_form("/phone/forget", source="camera")

    assert answer.url.path == "/phone/camera" and not faces.phones
    assert code_of(enrolled.post_pictures("/phone/camera/sign-in", b"ada", accept=JSON)) == (409, "no_face_enrolled")


def test_an_erasure_that_did_not_happen_is_told(browser: Browser) -> None:
    browser.post_pictures("/phone/pictures/enrol", *[b"stuck"] * 3, username="ann")

    answer = browser.post_form("/phone/forget")

    assert answer.status_code == 503 and "did not erase its half" in answer.text


def test_the_script_is_told_which_pictures_are_to_blame(browser: Browser, faces: SoftwareFacePhones) -> None:
    pictures = [b"ada", b"dark", b"ada", b"dark"]

    answer = browser.post_pictures("/phone/pictures/enrol", *pictures, username="ada", accept=JSON)

    assert code_of(answer) == (422, "pictures_refused")
    assert answer.json()["detail"] == "2 of 4 pictures cannot be used."
    assert answer.json()["pictures"] == [
        {"position": at, "code": "face_too_dark", "detail": "The face is too dark."} for at in (2, 4)
    ]
    assert not faces.phones and browser.user is None
    # The name is still free: another try with better pictures succeeds.
    browser.post_pictures("/phone/pictures/enrol", b"ada", b"ada", b"ada", username="ada")
    assert browser.user == "ada"


def test_without_script_the_form_comes_back_with_name_and_reasons(browser: Browser) -> None:
    answer = browser.post_pictures("/phone/pictures/enrol", b"ada", b"dark", b"ada", username='a"da')
    assert answer.status_code == 400  # a name that cannot be is told first

    answer = browser.post_pictures("/phone/pictures/enrol", b"ada", b"dark", b"ada", username="ada")

    assert answer.status_code == 422
    assert 'value="ada"' in answer.text and "Picture 2: The face is too dark." in answer.text
    assert 'role="alert"' in answer.text and 'action="/phone/pictures/enrol"' in answer.text


def test_a_sign_in_takes_exactly_one_picture(enrolled: Browser, faces: SoftwareFacePhones) -> None:
    looked_at = faces.looked_at

    for pictures in ([], [b"ada", b"ada"]):
        answer = enrolled.post_pictures("/phone/pictures/sign-in", *pictures, accept=JSON)
        assert code_of(answer) == (422, "pictures_refused")

    assert faces.looked_at == looked_at and enrolled.user is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_pictures_do_not_enrol(browser: Browser, count: int) -> None:
    answer = browser.post_pictures("/phone/pictures/enrol", *[b"ada"] * count, username="ada", accept=JSON)

    assert code_of(answer) == (422, "pictures_refused")


def test_a_phone_that_cannot_be_enrolled_is_told(browser: Browser) -> None:
    answer = browser.post_pictures("/phone/pictures/enrol", *[b"no server"] * 3, username="ada", accept=JSON)

    assert code_of(answer) == (503, "phone_failed")
    assert answer.json()["detail"] == "The server could not be reached."


@pytest.mark.parametrize(
    ("pictures", "fields", "expected"),
    [
        ([b"ada"] * 11, {}, (413, "too_large")),
        ([bytes(PICTURE_BYTES_MAX + 1)], {}, (413, "too_large")),
        ([bytes(PICTURE_BYTES_MAX)] * 4, {"much": "more"}, (413, "too_large")),
        ([b"ada"], {"username": "a" * 1025}, (400, "malformed")),
        ([b"ada"], {f"field{number}": "" for number in range(8)}, (400, "malformed")),
    ],
    ids=["count", "picture", "together", "field", "fields"],
)
def test_a_form_is_bounded_in_every_direction(
    browser: Browser,
    faces: SoftwareFacePhones,
    pictures: list[bytes],
    fields: dict[str, str],
    expected: tuple[int, str],
) -> None:
    """Before anything is decoded: what arrives is held in memory."""
    answer = browser.post_pictures("/phone/pictures/enrol", *pictures, accept=JSON, **fields)

    assert code_of(answer) == expected
    assert faces.looked_at == 0


BOUNDARY = b"b"


def part(disposition: bytes, content: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        b"--b\r\n",
        part(b'form-data; name="pictures"; filename="x"', b"ada"),
        part(b"form-data", b"x") + b"--b--\r\n",
        part(b'attachment; name="pictures"', b"x") + b"--b--\r\n",
        part(b'form-data; name="\xff"', b"x") + b"--b--\r\n",
        part(b'form-data; name="csrf"', b"\xff") + b"--b--\r\n",
        2 * part(b'form-data; name="csrf"', b"x") + b"--b--\r\n",
        b"--b\r\n\r\nno header\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: form-data; name=" + b"n" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\nx\r\n--b--\r\n",
    ],
    ids=range(12),
)
def test_a_form_that_cannot_be_read_is_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        parse_picture_form(content, BOUNDARY)


@settings(deadline=None)  # a deadline would measure the machine
@given(
    st.lists(st.sampled_from([b"--b", b"--", b"\r\n", b"\r", b"\n", b"x", b'form-data; name="a"', b":"]) | st.binary())
)
def test_no_body_makes_the_reader_fail_otherwise(pieces: list[bytes]) -> None:
    content = part(b'form-data; name="a"', b"".join(pieces)) + b"".join(pieces)

    with contextlib.suppress(Refusal):
        parse_picture_form(content, BOUNDARY)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=8).filter(lambda name: name != "pictures"),
        st.text(max_size=200),
        max_size=8,
    ),
    st.lists(st.binary(min_size=1, max_size=300), max_size=10),
)
def test_what_a_browser_encodes_is_read_back(fields: dict[str, str], pictures: list[bytes]) -> None:
    """httpx encodes, as an independent judge of the format; file names are forgotten."""
    files = [("pictures", ('../../etc/"passwd', picture, "image/png")) for picture in pictures]
    request = httpx.Request("POST", ORIGIN, data=fields, files=[*files, ("pictures", ("", b""))])
    boundary = request.headers["content-type"].split("boundary=")[1].encode()

    form = parse_picture_form(request.read(), boundary)

    assert form.fields == fields and list(form.pictures) == pictures
    assert not pictures or repr(pictures[0]) not in repr(form)


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_content_type_is_refused(browser: Browser, content_type: str) -> None:
    browser.get("/")
    answer = browser.post("/phone/pictures/enrol", content=b"x", headers={"Content-Type": content_type})

    assert code_of(answer) == (415, "unsupported_media_type")


def test_the_form_needs_the_token_of_this_browser(enrolled: Browser, new_browser: NewBrowser) -> None:
    other = new_browser()
    foreign = other.get("/session").json()["csrf"]
    picture = [("pictures", ("x", b"ada"))]

    for fields in ({}, {"csrf": ""}, {"csrf": foreign}, {"csrf": "é"}):
        answer = enrolled.post("/phone/pictures/sign-in", data=fields, files=picture)
        assert code_of(answer) == (403, "csrf")
    assert enrolled.user is None


@pytest.mark.parametrize("headers", [{}, {"origin": "https://elsewhere.example"}, {"origin": "null"}], ids=str)
def test_a_page_of_another_site_does_not_get_its_body_read(
    site: FastAPI, browser: Browser, headers: dict[str, str]
) -> None:
    """SameSite keeps our cookie away from other sites' forms, and Origin names them; 40 MB are not read to see more."""
    cookie = {} if not headers else {"cookie": f"rp_browser={dict(browser.get('/').cookies)['rp_browser']}"}

    assert asyncio.run(_unread(site, "/phone/pictures/enrol", {**headers, **cookie})) == 403


def test_on_a_site_without_faces_no_form_is_read(tmp_path: Path, phone: SoftwarePhone) -> None:
    app = create_app(RelyingPartySettings(database=tmp_path / "plain.sqlite", origin=ORIGIN), phone)

    for path in ("/phone/pictures/enrol", "/phone/camera/sign-in"):
        assert asyncio.run(_unread(app, path, {})) == 404


@pytest.mark.parametrize("source", SOURCES)
def test_where_faces_are_off_the_page_says_what_to_run(tmp_path: Path, phone: SoftwarePhone, source: str) -> None:
    app = create_app(RelyingPartySettings(database=tmp_path / "plain.sqlite", origin=ORIGIN), phone)
    with Browser(app, base_url=ORIGIN) as browser:
        page = browser.get(f"/phone/{source}").text

    assert 'make demo-web ARGS="--faces"' in page and "<form" not in page and "faces.js" not in page


def test_without_a_phone_there_are_no_pages_for_faces(tmp_path: Path) -> None:
    app = create_app(RelyingPartySettings(database=tmp_path / "plain.sqlite", origin=ORIGIN))
    with Browser(app, base_url=ORIGIN) as browser:
        for path in ("/phone/pictures", "/phone/camera", "/phone/elsewhere"):
            assert code_of(browser.get(path)) == (404, "not_found")


def test_only_the_camera_s_page_may_ask_for_a_camera_and_no_page_may_load_more_than_before(browser: Browser) -> None:
    for path in ("/", "/phone", "/phone/pictures", "/phone/camera", "/phone/camera/x", "/static/faces.js"):
        headers = browser.get(path).headers
        camera = "camera=(self)" if path == "/phone/camera" else "camera=()"
        assert camera in headers["permissions-policy"] and "microphone=()" in headers["permissions-policy"]
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; ")
        assert not re.search(r"blob:|data:|unsafe|https?:", policy)


@pytest.mark.parametrize("source", SOURCES)
def test_every_field_has_a_label_and_no_script_or_style_is_inline(enrolled: Browser, source: str) -> None:
    for page in (enrolled.get(f"/phone/{source}").text, enrolled.post_form("/phone/forget").text):
        ids = set(re.findall(r'<label for="([^"]+)"', page))
        shown = [tag for tag in re.findall(r"<input[^>]*>", page) if 'type="hidden"' not in tag]
        assert shown and {match[1] for tag in shown if (match := re.search(r' id="([^"]+)"', tag))} == ids
        assert not re.search(r"<style|style=|<script(?![^>]* src=\"/static/)|\son[a-z]+=", page)


async def _unread(app: FastAPI, path: str, headers: dict[str, str]) -> int:
    """The status of the answer to a form whose body must not be asked for."""
    status = 0

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    raw = {"host": "localhost:8123", "content-type": "multipart/form-data; boundary=b", "accept": JSON, **headers}
    await app(
        {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in raw.items()],
            "server": ("localhost", 8123),
            "client": ("127.0.0.1", 1),
            "root_path": "",
        },
        receive,
        send,
    )
    return status
