"""docs/relying-parties.md: the Python of its section on attestation is run as it stands there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attested import attesting_server, statement_of
from people import Person, enrolled_device

TEXT = (Path(__file__).parents[2] / "docs" / "relying-parties.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT.partition("## Attestation")[2], re.S)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that the document says its reader has, in a folder with the operator's statement."""
    person = Person(1)
    monkeypatch.chdir(tmp_path)
    with attesting_server(tmp_path / "server") as server:
        (tmp_path / "statement.json").write_text(json.dumps(statement_of(server)))
        with enrolled_device(server, tmp_path, person) as device:
            yield {"device": device, "finger": person}


def test_every_example_runs(reader: dict[str, Any]) -> None:
    assert len(EXAMPLES) == 2
    for example in EXAMPLES:
        exec(compile(example, "docs/relying-parties.md", "exec"), reader)

    assert reader["attested"] and reader["described"].protocol_family == "fido2"
