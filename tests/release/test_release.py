"""`python release`: what it leaves is what users get."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = 1_700_000_000

pytestmark = [
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("build", "twine", "cyclonedx_py", "hatchling")),
        reason="the extra `release` is not installed",
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of a release, by their last ending."""
    directory = tmp_path_factory.mktemp("release")
    done = subprocess.run(
        [sys.executable, ROOT / "release", directory],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution" in done.stdout:
        pytest.skip("dependencies cannot be had here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "byte for byte the same" in done.stdout
    return {file.name.rpartition(".")[2]: file for file in directory.iterdir()}


def test_the_wheel_holds_the_three_packages_and_their_data(released):
    with zipfile.ZipFile(released["whl"]) as wheel:
        names = set(wheel.namelist())
        times = {info.date_time[:3] for info in wheel.infolist()}
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if "dist-info" not in top} == {
        "otel_agentperf",
        "otel_agentperf_proxy",
        "otel_agentperf_analyzers",
    }
    assert times == {(2023, 11, 14)}
    for path in committed():
        folder, _, name = path.partition("/")
        name = path if folder == "otel_agentperf" else name
        if folder in ("otel_agentperf", "proxy", "analyzers") and name.endswith((".sql", ".toml", ".jsonl", ".typed")):
            assert name in names


def committed() -> list[str]:
    """Paths of what a release is built from."""
    if not (ROOT / ".git").exists():
        return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".venv" not in path.parts]
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def test_the_sdist_builds_and_documents_itself(released):
    with tarfile.open(released["gz"]) as sdist:
        members = {member.name.partition("/")[2]: member for member in sdist.getmembers()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "docs/README.md", "deploy/README.md"} <= set(
        members
    )
    assert {member.mtime for member in members.values()} == {EPOCH}
    assert not [name for name in members if "__pycache__" in name or name.startswith((".git/", ".ci", ".venv"))]


def test_the_sbom_names_everything_that_is_installed(released):
    sbom = json.loads(released["json"].read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "otel-agentperf"
    components = {component["name"].lower().replace("_", "-"): component for component in sbom["components"]}
    with zipfile.ZipFile(released["whl"]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(name))
    required = [need for need in metadata.get_all("requires-dist") if "extra ==" not in need]
    assert len(required) > 10
    assert {re.match(r"[\w.-]+", need)[0].lower() for need in required} <= set(components)
    assert all(component["version"] and component["purl"] for component in components.values())
    assert "pip" not in components
    assert "file://" not in released["json"].read_text()


def test_the_checksums_are_those_of_the_files(released):
    for line in released["SHA256SUMS"].read_text().splitlines():
        digest, name = line.split()
        (file,) = [file for file in released.values() if file.name == name]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    assert len(released) == 4
