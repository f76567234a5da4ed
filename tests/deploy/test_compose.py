"""The stack of compose, as far as it can be checked without Docker: schema, commands, what is mounted and reached."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from shipped import DASHBOARDS, DEPLOY, ROOT, RULES, call, needs

from otel_agentperf.cli.main import app
from otel_agentperf_proxy.config import load

FILE = DEPLOY / "compose" / "compose.yaml"
STACK: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("otel-agentperf:")]


def words(service: str) -> list[str]:
    """The command of a service, with the defaults of its variables."""
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in SERVICES[service]["command"]]


def mounts() -> list[tuple[str, Path, str]]:
    """Files and directories of the repository: who mounts them, where they are, and where they are seen."""
    return [
        (name, (FILE.parent / source).resolve(), target)
        for name, service in SERVICES.items()
        for source, target, *_ in (volume.split(":") for volume in service.get("volumes", ()))
        if source.startswith(".")
    ]


@needs("check-jsonschema")
def test_compose_knows_every_key() -> None:
    done = call("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", OURS)
def test_our_commands_parse(service: str) -> None:
    command: Any = typer.main.get_command(app)
    name, *arguments = words(service)
    command.commands[name].make_context(name, arguments)


def test_the_proxy_starts_with_these_options(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, [*words("proxy"), f"--store={tmp_path}", "--check-config"])
    assert done.exit_code == 0, done.output


def test_containers_can_do_nothing_but_their_work() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_images_have_versions() -> None:
    for name, service in SERVICES.items():
        _, _, tag = service["image"].partition(":")
        assert name in OURS or re.fullmatch(r"v?\d+\.\d+\.\d+", tag), service["image"]


def test_what_is_mounted_exists_and_cannot_be_written() -> None:
    assert len(mounts()) > 5
    for name, source, _ in mounts():
        assert source.exists(), source
        assert source.is_relative_to(ROOT)
        assert any(volume.endswith(":ro") for volume in SERVICES[name]["volumes"] if source.name in volume)
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    assert named == set(STACK["volumes"])


def test_who_talks_to_a_service_shares_a_network_with_it() -> None:
    """Addresses in commands, environments and mounted files name services that can be reached."""
    for name, service in SERVICES.items():
        said = [*map(str, service.get("command", ())), *map(str, service.get("environment", {}).values())]
        for user, source, _ in mounts():
            if user == name:
                files = [source] if source.is_file() else [*source.rglob("*.y*ml")]
                said += [file.read_text() for file in files]
        for other in SERVICES:
            if other != name and re.search(rf"\b{other}:\d", "\n".join(said)):
                assert set(service["networks"]) & set(SERVICES[other]["networks"]), (name, other)


def test_open_streams_end_before_docker_kills() -> None:
    drain = next(word.partition("=")[2] for word in words("proxy") if word.startswith("--drain="))
    assert SERVICES["proxy"]["stop_grace_period"] == "90s"
    assert float(drain) + 20 <= 90


def test_dashboards_find_their_data_sources() -> None:
    provisioned = yaml.safe_load((FILE.parent / "grafana" / "datasources" / "datasources.yaml").read_text())
    kinds = {each["uid"]: each["type"] for each in provisioned["datasources"]}
    prometheus = next(each for each in provisioned["datasources"] if each["type"] == "prometheus")
    for destination in prometheus["jsonData"]["exemplarTraceIdDestinations"]:
        assert kinds[destination["datasourceUid"]] in ("tempo", "jaeger")
    asked = {
        variable["query"]
        for path in DASHBOARDS
        for variable in json.loads(path.read_text())["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert asked == set(kinds.values())


def test_grafana_is_given_the_dashboards() -> None:
    (provider,) = yaml.safe_load((FILE.parent / "grafana" / "dashboards" / "provider.yaml").read_text())["providers"]
    seen = {target: source for user, source, target in mounts() if user == "grafana"}
    assert seen[provider["options"]["path"]] == DASHBOARDS[0].parent
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.rpartition("/")[2] in {path.name for path in DASHBOARDS}


def test_tempo_computes_metrics_from_client_spans() -> None:
    tempo = yaml.safe_load((FILE.parent / "tempo.yaml").read_text())
    assert "local-blocks" in tempo["overrides"]["defaults"]["metrics_generator"]["processors"]
    assert tempo["metrics_generator"]["processor"]["local_blocks"]["filter_server_spans"] is False


@needs("promtool", "apt-get install prometheus")
def test_prometheus_takes_its_configuration_with_the_rules(tmp_path: Path) -> None:
    text = (FILE.parent / "prometheus.yml").read_text()
    assert text.count("/etc/prometheus/rules") == 1
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/rules", str(RULES[0].parent)))
    done = call("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout
    assert "rules found" in done.stdout


@pytest.mark.parametrize("file", sorted((DEPLOY / "collector").glob("*.yaml")), ids=lambda path: path.stem)
@needs("otelcol", "python tests/peers/install.py DIR otelcol")
def test_the_collector_takes_its_configuration(file: Path) -> None:
    done = call("otelcol", "validate", "--config", file)
    assert done.returncode == 0, done.stdout


def test_toml_files_are_configurations() -> None:
    files = sorted(DEPLOY.rglob("*.toml"))
    assert files
    for file in files:
        assert load(file, {}).upstream == tomllib.loads(file.read_text())["upstream"]
