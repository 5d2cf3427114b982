"""Reading forms with pictures (multipart/form-data, RFC 7578): bounded, and in memory from the socket to the phone.

Starlette's own reader puts files of more than a megabyte on disk, and what is never written need not be erased.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from relying_party_demo.errors import Malformed, MissingCsrfToken, TooLarge, UnsupportedMediaType
from relying_party_demo.face_phone_port import PICTURES_MAX
from relying_party_demo.http_input import SiteOf, VisitorOf, limited_body, require_own_page, require_same_origin

PICTURE_BYTES_MAX: Final = 10 << 20
FORM_BYTES_MAX: Final = 40 << 20
"""A camera of 12 million pixels gives some 4 MB a picture."""
FIELD_BYTES_MAX: Final = 1024
FIELDS_MAX: Final = 8
PICTURES: Final = "pictures"
"""The name of the field with the files; what a file is called is not looked at."""


@dataclass(frozen=True, slots=True)
class PictureForm:
    """Text fields by name, and the contents of the files in order; files without content are left out."""

    fields: dict[str, str]
    pictures: tuple[bytes, ...] = field(repr=False)


async def picture_form(request: Request, site: SiteOf, visitor: VisitorOf) -> PictureForm:
    """The form of our own page; the CSRF token is the field csrf.

    Raises UnsupportedMediaType, MissingCsrfToken, TooLarge, Malformed.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMediaType("This address takes multipart/form-data.")
    # Nobody makes us read megabytes before it is as clear as it can be that a page of ours sent them.
    require_same_origin(request, site)
    if visitor.is_new:
        raise MissingCsrfToken()
    content = await limited_body(request, FORM_BYTES_MAX, _TOO_LARGE)
    form = await run_in_threadpool(parse_picture_form, content, boundary)
    await require_own_page(request, site, visitor, form.fields.pop("csrf", ""))
    return form


PictureFormBody = Annotated[PictureForm, Depends(picture_form)]

_TOO_LARGE: Final = (
    f"The pictures are too large: {PICTURE_BYTES_MAX >> 20} MB each and {FORM_BYTES_MAX >> 20} MB together is the most."
)


def parse_picture_form(content: bytes, boundary: bytes) -> PictureForm:
    """Raises Malformed, TooLarge."""
    reader = _Reader()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": reader.part_begins,
            "on_header_field": reader.header_name,
            "on_header_value": reader.header_value,
            "on_header_end": reader.header_ends,
            "on_headers_finished": reader.content_begins,
            "on_part_data": reader.content,
            "on_part_end": reader.part_ends,
            "on_end": reader.form_ends,
        },
    )
    try:
        parser.write(content)
    except FormParserError as error:
        raise Malformed("The form cannot be read.") from error
    if not reader.complete:
        raise Malformed("The form is cut short.")
    return PictureForm(reader.fields, tuple(reader.pictures))


class _Reader:
    """Gathers what the parser finds, part by part."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.pictures: list[bytes] = []
        self.complete = False
        self.part_begins()

    def part_begins(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._content = bytearray()
        self._name = ""
        self._bytes_max = 0

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def header_ends(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def content_begins(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        try:
            self._name = options.get(b"name", b"").decode("ascii")
        except UnicodeDecodeError as error:
            raise Malformed("A field of the form has no proper name.") from error
        if kind != b"form-data" or not self._name:
            raise Malformed("A field of the form has no proper name.")
        self._bytes_max = PICTURE_BYTES_MAX if self._name == PICTURES else FIELD_BYTES_MAX

    def content(self, data: bytes, start: int, end: int) -> None:
        if len(self._content) + end - start > self._bytes_max:
            if self._name == PICTURES:
                raise TooLarge(_TOO_LARGE)
            raise Malformed("A field of the form is too long.")
        self._content += data[start:end]

    def part_ends(self) -> None:
        if self._name == PICTURES:
            if self._content:  # browsers send an empty file where none was chosen
                self.pictures.append(bytes(self._content))
            if len(self.pictures) > PICTURES_MAX:
                raise TooLarge(f"At most {PICTURES_MAX} pictures can be sent.")
            return
        if not self._name or self._name in self.fields or len(self.fields) >= FIELDS_MAX:
            raise Malformed("A field of the form has no name or is given twice, or there are too many.")
        try:
            self.fields[self._name] = self._content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("A field of the form cannot be read.") from error

    def form_ends(self) -> None:
        self.complete = True
