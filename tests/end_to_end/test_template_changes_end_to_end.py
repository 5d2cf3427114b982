"""A template added and given up through a real server and the public calls: who may sign in, and what is told of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from people import Person, enrolled_device
from real_server import ThreadServer, process_server, thread_server
from relying_parties import RelyingParty

from authsvc.services.template_rotation import issue_rotation_code
from device_sdk import AsyncDevice, Device, KeyFile
from device_sdk.biometrics.iris import IrisEncoder, SimulatedIris
from device_sdk.errors import CodeRequired, NoMatch, TooManyTemplates


def registered(device: Device, person: Person) -> RelyingParty:
    shop = RelyingParty()
    options = shop.creation_options()
    shop.register(options, device.create(options, shop.origin, person.capture))
    return shop


def sign_in(device: Device, shop: RelyingParty, person: Person) -> None:
    options = shop.request_options()
    shop.authenticate(options, device.get(options, shop.origin, person.capture))


def test_two_eyes_of_one_person_at_a_server_of_two_workers(tmp_path: Path) -> None:
    """Whichever worker answers knows of the second eye; a third person's is neither."""
    left, right, third = Person(1), Person(2), Person(3)
    with process_server(tmp_path, "--workers", "2") as server, enrolled_device(server, tmp_path, left) as device:
        shop = registered(device, left)
        with pytest.raises(NoMatch):
            sign_in(device, shop, right)

        assert device.add_template(right.captures(), left.capture) is True

        report = device.last_ceremony
        assert report is not None and report.kind == "add_template" and report.requests == 2
        assert device.templates == 2
        for _ in range(3):
            for person in (left, right):
                sign_in(device, shop, person)
        with pytest.raises(NoMatch):
            sign_in(device, shop, third)
        assert device.add_template(third.captures(), right.capture) is True
        sign_in(device, shop, third)
        with pytest.raises(TooManyTemplates):
            device.add_template(Person(4).captures(), left.capture)
        assert device.remove_template(2, left.capture) is True
        with pytest.raises(NoMatch):
            sign_in(device, shop, third)
        sign_in(device, shop, right)

        history = device.history()
        assert [login.kind for login in history.logins].count("change") == 3
        told = [(event.name, event.detail["templates"]) for event in history.events if "templates" in event.detail]
        assert told == [("template_removed", 2), ("template_added", 3), ("template_added", 2)]
        row = server.database.one("SELECT templates, change_challenge, sealed_change FROM enrolments")
        assert row == {"templates": 2, "change_challenge": None, "sealed_change": None}


def test_with_an_operators_code(tmp_path: Path) -> None:
    """Where the operator wants a say, his code for a rotation lets one be added instead; it takes a match as well."""
    left, right = Person(1), Person(2)
    with (
        thread_server(tmp_path, added_templates_need_code=True) as server,
        enrolled_device(server, tmp_path, left) as device,
    ):
        shop = registered(device, left)
        with pytest.raises(CodeRequired):
            device.add_template(right.captures(), left.capture)
        code = issue_rotation_code(server.context, device.enrolment_id).code
        with pytest.raises(NoMatch):
            device.add_template(right.captures(), right.capture, code=code)

        assert device.add_template(right.captures(), left.capture, code=code) is True

        sign_in(device, shop, right)


def test_from_asyncio(server: ThreadServer, tmp_path: Path) -> None:
    left, right = Person(1), Person(2)
    with enrolled_device(server, tmp_path, left) as device:
        registered(device, left)

    async def changes() -> list[bool]:
        async with await AsyncDevice.open(tmp_path / "vault", vault_key=KeyFile(tmp_path / "vault.key")) as phone:

            async def prompt() -> object:
                return left.capture()

            return [await phone.add_template(right.captures(), prompt), await phone.remove_template(1, prompt)]

    assert asyncio.run(changes()) == [True, True]


def test_both_irises_with_masks_and_rotation(server: ThreadServer, tmp_path: Path) -> None:
    """The published profile: the second eye's code and mask lie beside the first one's, and each is turned to fit."""
    left, right, other = SimulatedIris(21), SimulatedIris(22), SimulatedIris(23)
    with Device.enrol(
        server=server.url,
        enrolment_code=server.code(),
        captures=left.captures(3),
        vault=tmp_path / "vault",
        vault_key=KeyFile(tmp_path / "vault.key"),
        profile="iris-2048",
        encoder=IrisEncoder(2048),
    ) as device:
        shop = RelyingParty()
        options = shop.creation_options()
        shop.register(options, device.create(options, shop.origin, left.capture()))

        assert device.add_template(right.captures(3), left.capture) is True

        for eye in (left, right):
            options = shop.request_options()
            shop.authenticate(options, device.get(options, shop.origin, eye.capture()))
        with pytest.raises(NoMatch):
            device.get(shop.request_options(), shop.origin, other.capture())
