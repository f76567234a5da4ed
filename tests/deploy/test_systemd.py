"""The unit, by systemd's own tools."""

import configparser
import shutil
from pathlib import Path

from shipped import DEPLOY, ROOT, call, needs

from otel_agentperf_proxy.config import ProxyConfig

UNIT = DEPLOY / "systemd" / "otel-agentperf-proxy.service"


def settings() -> dict[str, str]:
    """Of the unit's service; of repeated keys the last."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


@needs("systemd-analyze", "apt-get install systemd")
def test_systemd_finds_nothing_to_say(tmp_path: Path) -> None:
    text = UNIT.read_text()
    program = "/opt/otel-agentperf/bin/otel-agentperf"
    assert text.count(program) == 2
    (tmp_path / UNIT.name).write_text(text.replace(program, shutil.which("true") or "/bin/true"))
    done = call("systemd-analyze", "verify", "--man=no", tmp_path / UNIT.name)
    assert UNIT.name not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout


@needs("systemd-analyze", "apt-get install systemd")
def test_the_unit_is_exposed_little() -> None:
    done = call("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", UNIT)
    assert done.returncode == 0, done.stdout[-2000:]


def test_open_streams_end_before_systemd_kills() -> None:
    assert float(settings()["TimeoutStopSec"]) >= ProxyConfig(upstream="http://a").drain_s + 20
    assert settings()["KillMode"] == "mixed"


def test_it_writes_to_its_state_directory_only() -> None:
    found = settings()
    assert found["ProtectSystem"] == "strict"
    assert f"OTEL_AGENTPERF_STORE=/var/lib/{found['StateDirectory']}" in found["Environment"]


def test_the_documentation_installs_it_from_where_it_is() -> None:
    assert str(UNIT.relative_to(ROOT)) in (DEPLOY / "README.md").read_text()
