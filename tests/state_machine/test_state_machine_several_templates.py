"""A profile with two templates: two groups of captures at enrolment, and a match with either of them is a match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from state_machine_harness import (
    ENCODER,
    FACE,
    NO_LIMITS,
    PROFILE,
    SERVER_URL,
    STRANGER,
    Clock,
    Network,
    Phone,
    Server,
    policy,
)

from authsvc.services import administration
from device_sdk import Device
from device_sdk.errors import EncodingError, InconsistentCaptures, NoMatch
from device_sdk.vault.keys import KeyFile

TWICE = replace(PROFILE, name="sim-512x2", templates=2)
OTHER_FACE = np.random.default_rng(21).integers(0, 2, 512, dtype=np.uint8)


def changed(face: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    return face ^ (np.arange(512) < bits).astype(np.uint8)


@pytest.fixture
def two_templates(tmp_path: Path, clock: Clock) -> Iterator[Server]:
    server = Server(tmp_path, clock, policy(TWICE, NO_LIMITS))
    yield server
    server.close()


def enrol(server: Server, folder: Path, captures: Sequence[Any], code: str) -> None:
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=code,
        captures=captures,
        vault=folder / "vault",
        profile=TWICE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=Network(server.serve, server.clock, server.profile_document),
    ).close()


def test_a_login_that_matches_only_one_of_the_templates_succeeds(two_templates: Server, tmp_path: Path) -> None:
    """With and without glasses: each is a full template with the full threshold, and neither stands in for both."""
    code = administration.issue_code(two_templates.ctx, label="Ada").code
    enrol(two_templates, tmp_path, [[FACE] * 3, [OTHER_FACE] * 3], code)
    (tmp_path / "accounts.json").write_text("{}")
    phone = Phone(tmp_path, two_templates)
    assert int((FACE ^ OTHER_FACE).sum()) > 2 * TWICE.threshold - 20  # far apart: what matches one misses the other
    phone.create("ada", OTHER_FACE)
    assert phone.confirm()

    for face in (FACE, OTHER_FACE):
        assert phone.get(face) > 0
        assert phone.get(changed(face, TWICE.threshold)) > 0
        with pytest.raises(NoMatch):
            phone.get(changed(face, TWICE.threshold + 1))
    with pytest.raises(NoMatch):
        phone.get(STRANGER)

    assert phone.get(OTHER_FACE) > 0 and phone.confirm()
    assert {login.cost for login in two_templates.logins(phone.id)} == {2}
    phone.crash()


@pytest.mark.parametrize(
    "captures",
    [
        [[FACE] * 3],
        [[FACE] * 3] * 3,
        [FACE] * 3,
        [FACE] * 2,
        [[FACE] * 3, [FACE] * 2],
        [],
    ],
    ids=["one group", "three groups", "three captures", "two captures", "a short group", "none"],
)
def test_a_wrong_number_of_groups_is_told_before_the_code_is_shown(
    two_templates: Server, tmp_path: Path, captures: Sequence[Any]
) -> None:
    """Nothing is asked of the server, no vault is left behind, and the code is still good."""
    code = administration.issue_code(two_templates.ctx, label="Ada").code
    before = two_templates.dump()

    with pytest.raises(EncodingError):
        enrol(two_templates, tmp_path, captures, code)

    assert two_templates.dump() == before
    assert not (tmp_path / "vault").exists()
    enrol(two_templates, tmp_path, [[FACE] * 3, [OTHER_FACE] * 3], code)


def test_the_captures_of_one_group_must_agree(two_templates: Server, tmp_path: Path) -> None:
    """Two faces in one group would make a template that is neither of them."""
    code = administration.issue_code(two_templates.ctx, label="Ada").code
    with pytest.raises(InconsistentCaptures):
        enrol(two_templates, tmp_path, [[FACE] * 3, [FACE, FACE, OTHER_FACE]], code)
