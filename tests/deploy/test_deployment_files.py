"""The files of deploy/ against the program that they start: a setting, port or address that is renamed breaks these."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from sqlalchemy.engine import make_url

from authsvc.api.observed import PROBES
from authsvc.cli import app
from authsvc.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES_OF_POLICY = {"POLICY_FILE"}


def commands() -> set[str]:
    group = typer.main.get_command(app)
    return set(group.commands)  # type: ignore[attr-defined]


def unit() -> list[tuple[str, str]]:
    """(key, value) of every line of the unit, repeated keys as often as they stand."""
    lines = (DEPLOY / "tandem-auth.service").read_text().splitlines()
    return [tuple(line.split("=", 1)) for line in lines if line and line[0] not in "#["]  # type: ignore[misc]


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def manifest(kind: str) -> dict[str, Any]:
    return next(each for each in manifests() if each["kind"] == kind)


def pod() -> dict[str, Any]:
    return dict(manifest("Deployment")["spec"]["template"]["spec"])


def variables() -> Iterator[tuple[str, str]]:
    """(file, name) of every environment variable of ours that is set anywhere."""
    for key, value in unit():
        if key == "Environment":
            yield "unit", value.split("=", 1)[0]
    yield from (("compose", name) for name in compose()["services"]["authsvc"]["environment"])
    for container in (*pod()["initContainers"], *pod()["containers"]):
        yield from (("kubernetes", item["name"]) for item in container["env"])
    yield from (("Dockerfile", name) for name in re.findall(r"TANDEM_\w+", (DEPLOY / "Dockerfile").read_text()))


def test_every_variable_is_a_setting() -> None:
    """A misspelt one would be ignored, and its default taken instead."""
    known = {name.upper() for name in Settings.model_fields} | FILES_OF_POLICY
    named = [(file, name) for file, name in variables() if name.startswith("TANDEM_")]
    assert {file for file, _ in named} == {"unit", "compose", "kubernetes", "Dockerfile"}

    assert {name for _, name in named if name.removeprefix("TANDEM_") not in known} == set()


def test_the_compose_settings_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_POLICY_FILE", raising=False)
    environment = {**compose()["services"]["authsvc"]["environment"], "TANDEM_DATA_DIR": str(tmp_path)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.host == "127.0.0.1"  # plain HTTP is served nowhere else
    assert make_url(str(settings.database_url)).get_backend_name() == "postgresql"
    assert settings.trusted_proxies == ["127.0.0.1"]


def test_the_kubernetes_policy_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = manifest("ConfigMap")["data"]["policy.toml"]
    values = tomllib.loads(policy)
    file = tmp_path / "policy.toml"
    file.write_text(policy)
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(file))

    settings = Settings()

    (port,) = pod()["containers"][0]["ports"]
    assert settings.port == port["containerPort"] == manifest("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"]
    assert values["tls_cert_file"].startswith("/etc/tandem/tls/")


def test_commands_exist() -> None:
    started = [value for key, value in unit() if key == "ExecStart"]
    entry, argument = re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)

    assert started == ["/opt/tandem-auth/bin/authsvc serve"]
    assert json.loads(entry) == ["authsvc"]
    given = [json.loads(argument), *(each["args"] for each in (*pod()["initContainers"], *pod()["containers"]))]
    assert {args[0] for args in given} == {"serve", "migrate"} <= commands()


def test_probes_ask_what_the_server_answers() -> None:
    container = pod()["containers"][0]
    asked = {container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    (address,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", str(compose()["services"]["authsvc"]["healthcheck"]))

    assert asked == {"/healthz", "/readyz"} <= set(PROBES)
    assert address == (compose()["services"]["authsvc"]["environment"]["TANDEM_PORT"], "/readyz")
    assert f"server 127.0.0.1:{address[0]};" in (DEPLOY / "nginx.conf").read_text()


def test_no_secret_stands_in_a_file() -> None:
    """Secrets come from files and Secrets that are not here; what a layer or manifest holds, everybody reads."""
    services = compose()["services"]
    mounted = {name for service in services.values() for name in service.get("secrets", ())}
    assert mounted == set(compose()["secrets"])
    assert {kind["kind"] for kind in manifests()} & {"Secret"} == set()
    of_pod = {item["name"]: item for item in pod()["containers"][0]["env"]}
    assert all("secretKeyRef" in of_pod[name]["valueFrom"] for name in ("TANDEM_KEK", "TANDEM_DATABASE_URL"))
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == {
        "pyproject.toml", "README.md", "LICENSE", "mpc", "keys", "authsvc", "device_sdk", "relying_party_demo",
    }  # fmt: skip


def test_nobody_runs_as_root_and_nothing_is_written() -> None:
    assert "USER 10001:10001" in (DEPLOY / "Dockerfile").read_text()
    assert pod()["securityContext"]["runAsNonRoot"] is True
    for container in (*pod()["initContainers"], *pod()["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert compose()["services"]["authsvc"]["read_only"] is True
    assert ("NoNewPrivileges", "yes") in unit() and ("LimitCORE", "0") in unit()


def test_the_manifests_fit_the_schema_of_kubernetes() -> None:
    """By the published schema of the API, strictly: an unknown field is an error there."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

    for each in manifests():
        validate.validate(each, "1.31", strict=True)


def test_the_unit_is_one_that_systemd_takes() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine: the unit was not checked by systemd")
    command = ["systemd-analyze", "verify", "--man=no", str(DEPLOY / "tandem-auth.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    # The program is not installed where the unit looks for it; everything else would be a complaint about the unit.
    told = [line for line in (done.stdout + done.stderr).splitlines() if "is not executable" not in line]
    assert [line for line in told if "tandem-auth" in line] == []


def test_the_unit_parses() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "tandem-auth.service").read_text())
    assert set(parser.sections()) == {"Unit", "Service", "Install"}
