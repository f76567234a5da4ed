"""What users and clients get wrong: one clear line, or a faithful pass-through; never a traceback."""

import gzip
import json
import os
import subprocess
import sys

import httpx
import pytest

CALL = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


def command(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run `otel-agentperf`; exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_agentperf", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--no-such-option"], 2, "No such option: --no-such-option"),
        (["no-such-command"], 2, "No such command 'no-such-command'"),
        (["proxy"], 2, "no upstream: give --upstream URL"),
        (["proxy", "--upstream"], 2, "requires an argument"),
        (["proxy", "--upstream", "localhost:8000"], 2, "not an http or https URL"),
        (["proxy", "--upstream", "http://h", "--listen", "4000"], 2, "not an address: '4000'"),
        (["proxy", "--upstream", "http://h", "--listen", "127.0.0.1:5", "--admin", "127.0.0.1:5"], 2, "are both"),
        (["proxy", "--upstream", "http://h", "--workers", "0"], 2, "workers must be positive"),
        (["proxy", "--upstream", "http://h", "--workers", "two"], 2, "Invalid value for '--workers'"),
        (["proxy", "--upstream", "http://h", "--capture", "all"], 2, "capture"),
        (["proxy", "--upstream", "http://h", "--config", "/no/such/file"], 2, "cannot read /no/such/file"),
        (["proxy", "--upstream", "http://h", "--store", "/proc/store"], 3, "/proc/store"),
        (["proxy", "--upstream", "http://h", "--listen", "192.0.2.1:1"], 3, "cannot listen on 192.0.2.1:1"),
        (["simulate", "--max-batch", "0"], 2, "max"),
        (["report", "/no/such/store"], 3, "/no/such/store"),
        (["turns", "ftp://host"], 2, "ftp"),
        (["demo", "--out", "/proc/demo"], 3, "cannot make /proc/demo"),
        (["replay", "mini", "--endpoint", "http://127.0.0.1:9", "--model", "m"], 3, "127.0.0.1:9"),
    ],
)
def test_a_users_mistake_is_one_line(arguments, code, words, tmp_path):
    came, stdout, stderr = command(*arguments, OTEL_AGENTPERF_STORE=str(tmp_path / "store"))
    assert came == code, stderr
    assert words in stderr
    assert stdout == ""
    assert stderr.count("\n") == 1, stderr


def test_a_garbage_trace_file(tmp_path):
    garbage = tmp_path / "garbage.jsonl"
    garbage.write_bytes(os.urandom(4096))
    code, stdout, stderr = command("turns", str(garbage))
    assert (code, stdout, stderr.count("\n")) == (3, "", 1)
    assert "garbage.jsonl" in stderr


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"this is no JSON", 400),
        (b'{"model": "m", "messages": [{"role": "user", "content": "caf\xe9"}]}', 400),
        (b"", 400),
        (b"\x00\xff" * 1000, 400),
    ],
)
def test_a_body_that_cannot_be_read_is_passed_on(recorded, body, status):
    answer = httpx.post(f"{recorded.url}/v1/chat/completions", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    (attempt,) = recorded.rows("attempts")
    assert (attempt["status"], attempt["http_status"], attempt["dialect"]) == ("error", status, "openai.chat")


def test_a_gzip_body_is_passed_on_untouched(recorded):
    packed = gzip.compress(json.dumps(CALL).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    answer = httpx.post(f"{recorded.url}/v1/chat/completions", content=packed, headers=headers)
    # The simulated endpoint does not take gzip; the proxy has read it all the same.
    assert answer.status_code in (400, 415)
    (attempt,) = recorded.rows("attempts")
    assert attempt["request_model"] == "m"


def test_a_body_of_100_mb(recorded):
    text = "word " * 20_000_000
    body = json.dumps({**CALL, "messages": [{"role": "user", "content": text}]}).encode()
    answer = httpx.post(f"{recorded.url}/v1/chat/completions", content=body, timeout=120)
    # Longer than the model's context, or than the endpoint takes.
    assert answer.status_code in (400, 413)
    (attempt,) = recorded.rows("attempts")
    assert attempt["http_status"] == answer.status_code
    assert attempt["status"] == "error"
    # An endpoint that answers early gets no more than it had taken by then.
    assert 0 < attempt["request_bytes"] <= len(body)
