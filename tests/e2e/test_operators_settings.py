"""What operators set: by option, variable and file; in a place where little may be written."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

CALL = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


def check(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`otel-agentperf proxy --check-config`."""
    return subprocess.run(
        [sys.executable, "-m", "otel_agentperf", "proxy", "--check-config", *options],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_options_then_variables_then_the_file(tmp_path):
    file = tmp_path / "proxy.toml"
    file.write_text(
        'upstream = "http://file"\nworkers = 2\ndrain_s = 3\n[[upstreams]]\nurl = "http://a"\npath = "/a"\n'
    )
    done = check(
        "--workers",
        "4",
        OTEL_AGENTPERF_CONFIG=str(file),
        OTEL_AGENTPERF_WORKERS="3",
        OTEL_AGENTPERF_UPSTREAM="http://v",
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["upstream"], told["workers"], told["drain_s"]) == ("http://v", 4, 3)
    assert told["upstreams"][0]["path"] == "/a"
    assert "salt" not in told


def test_a_misspelt_variable_is_pointed_out():
    done = check("--upstream", "http://h", OTEL_AGENTPERF_WORKRES="3")
    assert done.returncode == 0
    assert done.stderr == "OTEL_AGENTPERF_WORKRES is no setting\n"


@pytest.mark.parametrize("option", ["--tls-cert", "--upstream-ca"])
def test_certificates_that_are_not_there_are_found_out_before_the_start(option):
    done = check("--upstream", "https://h", option, "/no/such.pem")
    assert (done.returncode, done.stdout) == (2, "")
    assert "/no/such.pem" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_password_of_a_collector_is_not_shown():
    done = check("--upstream", "http://h", "--otlp-endpoint", "http://user:hunter2@collector:4318")
    assert "hunter2" not in done.stdout + done.stderr


def test_two_upstreams_behind_one_port(endpoint, start_proxy, read_store, tmp_path):
    file = tmp_path / "proxy.toml"
    file.write_text(f'[[upstreams]]\nurl = "{endpoint[0]}"\npath = "/team"\nstrip_path = true\n')
    proxy = start_proxy("http://127.0.0.1:9", "--config", str(file))
    assert httpx.post(f"{proxy.url}/team/v1/chat/completions", json=CALL).status_code == 200
    assert httpx.post(f"{proxy.url}/v1/chat/completions", json=CALL).status_code == 502
    proxy.stop()
    there, nowhere = read_store(proxy.store, "attempts")
    assert (there["status"], there["dialect"]) == ("ok", "openai.chat")
    assert (nowhere["status"], nowhere["error_type"]) == ("error", "upstream_connect_failed")


def test_relays_may_open_what_the_system_lets_them(endpoint, start_proxy):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
    try:
        proxy = start_proxy(endpoint[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    pid = proxy.status()["relays"][0]["pid"]
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)


READ_ONLY = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount --bind "$2" "$2" || exit 1
while read -r _ at _; do
  case $at in "$1" | "$2" | /proc* | /sys* | /dev*) ;; *) mount -o remount,bind,ro "$at" || exit 1 ;; esac
done < /proc/self/mounts
shift 2
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
"""All file systems read-only but for two directories, and no capability."""

PROGRAM = """
import os, sys
from pathlib import Path
import httpx
from otel_agentperf.cli.embed import proxy_in_front
upstream, store, probe, call = sys.argv[1:]
try:
    open(probe, "w")
except OSError as exc:
    print(exc.strerror)
assert "CapEff:\\t0000000000000000" in Path("/proc/self/status").read_text()
with proxy_in_front(upstream, Path(store)) as url:
    print(httpx.post(url + "/v1/chat/completions", content=call).status_code)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can make file systems read-only")
def test_only_the_store_and_a_place_for_a_socket_need_be_writable(endpoint, tmp_path, read_store):
    # The names of sockets are short.
    store, place = tmp_path / "store", Path(tempfile.mkdtemp(prefix="place-", dir="/tmp"))
    store.mkdir()
    confined = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(store), str(place)]
    if subprocess.run([*confined, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts cannot be made here")
    arguments = [endpoint[0], str(store), str(tmp_path / "probe"), json.dumps(CALL)]
    done = subprocess.run(
        [*confined, sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TMPDIR": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    shutil.rmtree(place)
    assert (done.returncode, done.stdout) == (0, "Read-only file system\n200\n"), done.stderr
    (row,) = read_store(store, "attempts")
    assert row["status"] == "ok"
