"""The proxy does its work as containers run it: as nobody, on a root that cannot be written, without capabilities."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import httpx
import pytest
from collectors import free_address
from shipped import DEPLOY, ROOT

from otel_agentperf.cli.embed import simulated_endpoint
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source

PATIENCE_S = 60.0
TMP = Path("/tmp")
UID = 10001


def may_unshare() -> bool:
    """Whether this process may have mounts of its own, and give up its rights."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    with tempfile.TemporaryDirectory() as place:
        command = ["unshare", "--mount", "--propagation", "private", "mount", "--bind", "/", place]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def closed(directory: Path) -> bool:
    """Whether others than its owner may not enter it."""
    return not directory.stat().st_mode & 0o001


def opened(root: Path, directory: Path) -> Iterator[str]:
    """Commands that make a directory below a root reachable for everybody, where it is not, or where /tmp hides it."""
    above = next((each for each in (*reversed(directory.parents), directory) if each == TMP or closed(each)), None)
    if above is None:
        return
    yield f"mountpoint -q {root}{above} || mount -t tmpfs -o mode=755 tmpfs {root}{above}"
    yield f"mkdir -p {root}{directory}"
    for place in directory.iterdir() if closed(directory) else (directory,):
        yield f"{'mkdir -p' if place.is_dir() else 'touch'} {root}{place}"
        yield f"mount --rbind {place} {root}{place}"


@pytest.mark.skipif(not may_unshare(), reason="needs root, and the right to have mounts of its own")
def test_the_proxy_needs_no_rights_and_writes_only_to_its_store(tmp_path: Path) -> None:
    assert f"--uid {UID}" in (DEPLOY / "Dockerfile").read_text()
    root, store = tmp_path / "root", tmp_path / "store"
    root.mkdir()
    store.mkdir()
    os.chown(store, UID, UID)
    address, admin = free_address(), free_address()
    places = {Path(sys.prefix), Path(sys.base_prefix), ROOT}
    with simulated_endpoint(SimulateConfig(decode_ms=1)) as endpoint:
        script = [
            "set -e",
            f"mount --rbind / {root}",
            f"mount -o remount,bind,ro {root}",
            # A container's /tmp, in which is the store.
            f"mount -t tmpfs -o mode=1777 tmpfs {root}{TMP}",
            f"mkdir -p {root}{TMP}/store",
            f"mount --bind {store} {root}{TMP}/store",
            *(command for place in sorted(places) for command in opened(root, place)),
            f"exec chroot {root} setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs --bounding-set=-all "
            f"--inh-caps=-all env -i PATH=/usr/bin:/bin HOME=/nonexistent PYTHONDONTWRITEBYTECODE=1 "
            f"PYTHONPATH={ROOT}:{ROOT}/proxy:{ROOT}/analyzers {sys.executable} -m otel_agentperf proxy "
            f"--upstream {endpoint} --listen {address} --admin {admin} --store /tmp/store",
        ]
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until = time.monotonic() + PATIENCE_S
            while not _ready(admin):
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.1)
            here = Path(f"/proc/{process.pid}")
            facts = dict(line.split(":", 1) for line in (here / "status").read_text().splitlines() if ":" in line)
            assert facts["Uid"].split() == [str(UID)] * 4
            assert {facts[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
            assert facts["NoNewPrivs"].strip() == "1"
            mounts = [line.split() for line in (here / "mountinfo").read_text().splitlines()]
            assert [fields[5].split(",")[0] for fields in mounts if fields[4] == "/"] == ["ro"]
            call = {"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "Hello."}]}
            answer = httpx.post(f"http://{address}/v1/chat/completions", json=call, timeout=PATIENCE_S)
            assert answer.status_code == 200
        finally:
            process.terminate()
            _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
    with open_source(str(store)) as database:
        (row,) = database.relation("turns").to_pylist()
    assert row["status"] == "ok"
    assert json.loads((store / "store.json").read_text())
    assert {path.stat().st_uid for path in store.iterdir() if path.name.startswith("spans")} == {UID}


def _ready(admin: str) -> bool:
    try:
        with urlopen(f"http://{admin}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
