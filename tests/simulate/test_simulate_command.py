"""`otel-agentperf simulate` as a user runs it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

COMMAND = [sys.executable, "-m", "otel_agentperf", "simulate"]


@pytest.fixture
def simulate() -> Iterator[Callable[..., tuple[subprocess.Popen, str]]]:
    """Starts the command; gives the process and its base URL."""
    with ExitStack() as stack:

        def start(*options: str) -> tuple[subprocess.Popen, str]:
            process = subprocess.Popen(
                [*COMMAND, "--listen", "127.0.0.1:0", *options],
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            line = process.stderr.readline()
            found = re.fullmatch(r"simulate: listening on (http://127\.0\.0\.1:\d+)\n", line)
            assert found, line + process.stderr.read()
            return process, found[1]

        yield start


def refused(*options: str) -> tuple[int, str]:
    """Exit code and message of a command that does not start."""
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_leaves_a_truth_log(simulate, tmp_path, number):
    truth = tmp_path / "truth.jsonl"
    process, url = simulate("--truth", str(truth), "--model", "glm", "--kv-tokens", "50000", "--decode-ms", "1")
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["max_model_len"] == 50_000
    body = {"model": "glm", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    assert httpx.post(f"{url}/v1/messages", json=body).status_code == 200
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert (out, err) == ("", "simulate: ended\n")
    (line,) = truth.read_text().splitlines()
    assert json.loads(line)["status"] == "ok"


def test_a_signal_during_an_answer_ends_it_at_once_without_a_traceback(simulate):
    process, url = simulate()
    body = {"model": "m", "max_tokens": 100_000, "ignore_eos": True, "stream": True}
    messages = [{"role": "user", "content": "x"}]
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**body, "messages": messages}) as response:
        chunks = response.iter_raw()
        next(chunks)
        process.send_signal(signal.SIGINT)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in chunks:
                pass
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == "simulate: ended\n"


def test_an_address_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, message = refused("--listen", address)
    assert code == 3
    assert message.startswith(f"otel-agentperf: cannot listen on {address}: address already in use")
    assert message.count("\n") == 1


def test_a_truth_log_that_cannot_be_written_is_one_line(tmp_path):
    code, message = refused("--listen", "127.0.0.1:0", "--truth", str(tmp_path))
    assert code == 3
    assert message == f"otel-agentperf: cannot write the truth log {tmp_path}: Is a directory\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--listen", "nowhere"], "not an address"),
        (["--max-batch", "0"], "max-batch must be above 0, not 0"),
    ],
)
def test_a_value_that_makes_no_deployment_is_one_line(options, says):
    code, message = refused(*options)
    assert code == 2
    assert says in message
    assert message.count("\n") == 1


def test_help_shows_an_example_that_can_be_run():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "otel-agentperf simulate --listen 127.0.0.1:8000" in done.stdout
