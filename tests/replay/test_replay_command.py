"""The command `replay` as a user meets it, in a process of its own."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf.cli.bench import raise_file_limit
from otel_agentperf.cli.bench_options import CachePrefix, Dialect, OutputTokens
from otel_agentperf.errors import UsageError
from otel_agentperf.replay import DialectName, OutputPolicy, Placement

QUICK = ("--warmup", "0", "--trajectories", "2", "--tool-delay", "0", "--limit-turns", "2")


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    env = {name: value for name, value in os.environ.items() if name != "OTEL_AGENTPERF_STORE"} | environment
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "otel_agentperf",
        "replay",
        *arguments,
        env=env | {"COLUMNS": "200", "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr."""
    process = await start(*arguments, **environment)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def to(endpoint: Any) -> tuple[str, ...]:
    return ("mini", "--endpoint", endpoint.url, "--model", "tiny", "--no-proxy")


async def test_the_summary_is_on_stdout_and_the_rest_on_stderr(endpoint: Any) -> None:
    code, out, err = await run(*to(endpoint), *QUICK, "--agents", "1,2", "--benchmark-id", "b7")
    assert code == 0, err
    head, _, *rows = out.splitlines()
    assert head.split()[:4] == ["agents", "window_s", "requests", "errors"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert "benchmark b7: mini, 4 tasks with 8 turns" in err
    assert {request.tag("level") for request in endpoint.requests} == {"1", "2"}


async def test_json_has_one_object_per_level(endpoint: Any) -> None:
    code, out, err = await run(*to(endpoint), *QUICK, "--agents", "1,3", "--format", "json")
    assert code == 0, err
    levels = json.loads(out)
    assert [level["agents"] for level in levels] == [1, 3]
    assert all(level["completed_trajectories"] >= 2 for level in levels)
    assert all(level["errors"] == 0 for level in levels)


async def test_the_manifest_is_written(endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    code, _, err = await run(
        *to(endpoint), *QUICK, "--task", "task_skill_search", "--manifest", str(path), "--seed", "9"
    )
    assert code == 0, err
    record = json.loads(path.read_text())
    assert record["recording"]["tasks"] == ["task_skill_search"]
    assert record["recording"]["turns"] == 2
    assert record["seed"] == 9
    assert record["endpoint"]["url"] == endpoint.url
    assert len(record["levels"]) == 1
    code, _, err = await run(*to(endpoint), *QUICK, "--manifest", str(tmp_path / "no" / "where.json"))
    assert code == 3
    assert "where.json" in err


async def test_options_reach_the_requests(endpoint: Any) -> None:
    options = ("--output-tokens", "recorded", "--cache-prefix", "none", "--body", '{"reasoning_effort": "high"}')
    headers = ("--header", "X-Team: blue", "--api-key-env", "MY_KEY")
    code, out, err = await run(*to(endpoint), *QUICK, *options, *headers, MY_KEY="sk-hidden")
    assert code == 0, err
    request = endpoint.requests[0]
    assert "ignore_eos" not in request.body
    assert request.body["reasoning_effort"] == "high"
    assert request.headers["x-team"] == "blue"
    assert request.headers["authorization"] == "Bearer sk-hidden"
    assert "sk-hidden" not in out + err
    assert "blue" not in out + err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mini", "--model", "m"), "--endpoint"),
        (("mini", "--endpoint", "nonsense", "--model", "m"), "not an http or https URL"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--agents", "1,x"), "--agents 1,4,8"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--agents", "0"), "at least one agent"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--agents", "2,2"), "twice"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--trajectories", "0"), "trajectories"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--seconds", "-1"), "seconds"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--dialect", "grpc"), "grpc"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--header", "nocolon"), "NAME: VALUE"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--body", "{"), "not JSON"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--body", "[]"), "not a JSON object"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--body", '{"stream": false}'), "stream"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--api-key-env", "NOT_SET_AT_ALL"), "NOT_SET_AT_ALL"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--benchmark-id", "a b"), "not a benchmark id"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--task", "nope"), "no task 'nope' in mini; it has task_"),
        (("mini", "--endpoint", "http://h", "--model", "m", "--surprise"), "--surprise"),
    ],
)
async def test_wrong_usage_ends_with_2_and_words(arguments: tuple[str, ...], words: str) -> None:
    code, out, err = await run(*arguments)
    assert code == 2, err
    assert words in err
    assert out == ""
    assert "Traceback" not in err


async def test_what_cannot_be_reached_or_read_ends_with_3_and_one_line(endpoint: Any) -> None:
    for arguments, words in (
        (
            ("mini", "--endpoint", "http://127.0.0.1:1", "--model", "m"),
            "no endpoint at http://127.0.0.1:1: cannot connect",
        ),
        (("/no/such/thing", "--endpoint", endpoint.url, "--model", "m"), "/no/such/thing: no such file or directory"),
    ):
        code, out, err = await run(*arguments)
        assert (code, out) == (3, "")
        assert words in err
        assert len(err.strip().splitlines()) == 1


async def test_an_endpoint_that_refuses_the_key_is_told_in_one_line(endpoint: Any, make: Any) -> None:
    async def refuse(request: Any) -> Any:
        return make.reply(status=401, chunks=[b'{"error": {"message": "invalid key"}}'])

    endpoint.script = refuse
    code, out, err = await run(*to(endpoint), *QUICK)
    assert (code, out) == (3, "")
    assert err.strip().splitlines()[-1].endswith("status 401: invalid key")
    assert "Traceback" not in err


async def test_an_interrupt_ends_with_130_and_what_was_done(endpoint: Any, make: Any) -> None:
    async def hang_after_five(request: Any) -> Any:
        if endpoint.requests.index(request) >= 5:
            await asyncio.get_running_loop().create_future()
        return make.answer()

    endpoint.script = hang_after_five
    process = await start(*to(endpoint), "--warmup", "0", "--tool-delay", "0", "--agents", "2,3")
    await endpoint.arrived(7)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130, err
    assert out.decode().splitlines()[-1].split()[0] == "2"
    assert b"2 agents: 2 requests were cut off" in err
    assert b"Traceback" not in err


async def test_an_endpoint_that_dies_ends_with_3_after_the_partial_summary(endpoint: Any, make: Any) -> None:
    async def die(request: Any) -> Any:
        return make.answer() if len(endpoint.requests) < 9 else make.reply(status=400, chunks=[b"gone"])

    endpoint.script = die
    code, out, err = await run(*to(endpoint), "--warmup", "0", "--tool-delay", "0", "--agents", "2,3", "--retries", "0")
    assert code == 3
    assert out.splitlines()[-1].split()[0] == "2"
    assert "the endpoint stopped answering: status 400: gone" in err.splitlines()[-1]


async def test_help_shows_a_command_that_can_be_run() -> None:
    code, out, err = await run("--help")
    assert code == 0, err
    assert "otel-agentperf replay mini --endpoint http://127.0.0.1:8000 --model simulated" in " ".join(out.split())
    for option in (
        "--agents",
        "--seconds",
        "--warmup",
        "--output-tokens",
        "--tool-delay-scale",
        "--no-proxy",
        "--store",
    ):
        assert option in out


def test_the_choices_of_the_command_are_those_of_the_replay() -> None:
    for ours, theirs in ((Dialect, DialectName), (OutputTokens, OutputPolicy), (CachePrefix, Placement)):
        assert [each.value for each in ours] == [each.value for each in theirs]


def test_agents_beyond_the_systems_limit_of_open_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr("resource.setrlimit", lambda _, pair: limits.append(pair))
    raise_file_limit(10)
    assert limits == []
    raise_file_limit(1000)
    assert limits == [(2256, 4096)]
    with pytest.raises(UsageError, match="ulimit -Hn"):
        raise_file_limit(10_000)
