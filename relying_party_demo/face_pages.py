"""The pages for a visitor's own face: pictures or the browser's camera instead of the simulated sensor.

Both send the same form. The page with the camera puts its pictures where the other has the files that were chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from relying_party_demo.ceremonies import Verified
from relying_party_demo.errors import FaceEnrolled, NoFaceEnrolled, NotFound, PhoneFailed, PicturesRefused
from relying_party_demo.face_phone_port import (
    PICTURES_MAX,
    PICTURES_MIN,
    FacePhones,
    PhoneFault,
    PicturesUnusable,
)
from relying_party_demo.http_input import FormBody, SiteOf, VisitorOf, wants_page
from relying_party_demo.http_uploads import (
    FORM_BYTES_MAX,
    PICTURE_BYTES_MAX,
    PICTURES,
    PictureForm,
    PictureFormBody,
)
from relying_party_demo.pages import page
from relying_party_demo.phone_pages import show
from relying_party_demo.phone_port import PhoneOutcome
from relying_party_demo.site import Site
from relying_party_demo.visitors import Visitor

router = APIRouter(prefix="/phone", default_response_class=HTMLResponse)

Source = Literal["pictures", "camera"]
Ceremony = Callable[[dict[str, Any]], PhoneOutcome | None]


def faces_of(site: SiteOf) -> FacePhones:
    """Raises NotFound."""
    if site.faces is None:
        raise NotFound("This site runs without faces.")
    return site.faces


FacesOf = Annotated[FacePhones, Depends(faces_of)]


@router.get("/{source}")
def face_page(site: SiteOf, visitor: VisitorOf, source: Source) -> Response:
    if site.phone is None:
        raise NotFound("This site runs without the simulated phone.")
    return _page(site, visitor, source)


# The dependencies are resolved in order: no form is read on a site without faces.


@router.post("/{source}/enrol")
def enrol(
    site: SiteOf, visitor: VisitorOf, faces: FacesOf, source: Source, form: PictureFormBody, request: Request
) -> Response:
    """A phone of this browser's own, and with it an account, or one more passkey for the signed-in user."""
    if faces.is_enrolled(visitor.browser_hash):
        raise FaceEnrolled()

    def made(options: dict[str, Any]) -> PhoneOutcome:
        try:
            return faces.enrol(visitor.browser_hash, form.pictures, options, site.settings.origin)
        except PhoneFault as fault:
            raise PhoneFailed(fault.text) from fault

    return _register(site, visitor, source, form, request, made)


@router.post("/{source}/register")
def register(
    site: SiteOf, visitor: VisitorOf, faces: FacesOf, source: Source, form: PictureFormBody, request: Request
) -> Response:
    """The same with the phone that this browser has."""

    def made(options: dict[str, Any]) -> PhoneOutcome | None:
        return faces.register(visitor.browser_hash, _only(form), options, site.settings.origin)

    return _register(site, visitor, source, form, request, made)


@router.post("/{source}/sign-in")
def sign_in(
    site: SiteOf, visitor: VisitorOf, faces: FacesOf, source: Source, form: PictureFormBody, request: Request
) -> Response:
    options = site.ceremonies.login_options(visitor.browser_hash, form.fields.get("username"))
    try:
        outcome = faces.sign_in(visitor.browser_hash, _only(form), options, site.settings.origin)
    except PicturesUnusable as unusable:
        return _again(site, visitor, source, "sign-in", form, request, unusable)
    if outcome is None:
        raise NoFaceEnrolled()

    def finish(response: object) -> Verified:
        return site.ceremonies.finish_login(visitor.browser_hash, response)

    return show(site, visitor, "sign in", source, None, outcome, finish)


@router.post("/forget")
def forget(site: SiteOf, visitor: VisitorOf, faces: FacesOf, form: FormBody) -> Response:
    try:
        faces.forget(visitor.browser_hash)
    except PhoneFault as fault:
        raise PhoneFailed(fault.text) from fault
    return RedirectResponse("/phone/camera" if form.get("source") == "camera" else "/phone/pictures", status_code=303)


def _register(
    site: Site, visitor: Visitor, source: Source, form: PictureForm, request: Request, made: Ceremony
) -> Response:
    user = visitor.session.user if visitor.session else None
    if user:
        options = site.ceremonies.addition_options(visitor.browser_hash, user)
    else:
        options = site.ceremonies.registration_options(visitor.browser_hash, form.fields.get("username"), None)
    try:
        outcome = made(options)
    except PicturesUnusable as unusable:
        return _again(site, visitor, source, "register", form, request, unusable)
    if outcome is None:
        raise NoFaceEnrolled()

    def finish(response: object) -> Verified:
        if user:
            return site.ceremonies.finish_addition(visitor.browser_hash, user, response)
        return site.ceremonies.finish_registration(visitor.browser_hash, response)

    return show(site, visitor, "register", source, None, outcome, finish)


def _only(form: PictureForm) -> bytes:
    """Raises PicturesUnusable."""
    if len(form.pictures) != 1:
        raise PicturesUnusable("One picture is needed, and no more.")
    return form.pictures[0]


def _again(
    site: Site,
    visitor: Visitor,
    source: Source,
    failed: Literal["register", "sign-in"],
    form: PictureForm,
    request: Request,
    unusable: PicturesUnusable,
) -> Response:
    """The same form with what was wrong: as a page where no script is, else as a problem document for the script."""
    refusal = PicturesRefused(unusable.text, unusable.problems)
    if not wants_page(request):
        raise refusal
    name = form.fields.get("username", "")
    return _page(site, visitor, source, refusal.status, failed=failed, refusal=refusal, name=name)


def _page(
    site: Site,
    visitor: Visitor,
    source: Source,
    status: int = 200,
    *,
    failed: str | None = None,
    refusal: PicturesRefused | None = None,
    name: str = "",
) -> HTMLResponse:
    return page(
        site,
        visitor,
        "face.html",
        status,
        source=source,
        is_enrolled=site.faces is not None and site.faces.is_enrolled(visitor.browser_hash),
        failed=failed,
        refusal=refusal,
        name=name,
        field=PICTURES,
        pictures_min=PICTURES_MIN,
        pictures_max=PICTURES_MAX,
        picture_bytes_max=PICTURE_BYTES_MAX,
        form_bytes_max=FORM_BYTES_MAX,
    )
