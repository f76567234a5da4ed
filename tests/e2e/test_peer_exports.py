"""Peers replay what we export: an agent's work is recorded by the proxy, exported, and played by the tool that the
format is for, against the same simulated endpoint. Each recorded call is one request again."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import peer_agentperf_local
import peer_aiperf
import peer_guidellm
import pytest
from small_agent import work
from typer.testing import CliRunner

from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.cli.main import app
from otel_agentperf.replay.recorded import Call, read_calls
from otel_agentperf.simulate import SimulateConfig

pytestmark = pytest.mark.timeout(900)

CONFIG = SimulateConfig(decode_ms=0.5, decode_slope_ms=0.01, prefill_tokens_per_s=1e6, tool_call_rate=1, seed=7)
TASKS = ("parser", "scheduler")
TURNS = 4


def needs(peer: Any, name: str) -> Any:
    missing = pytest.mark.skipif(peer.found() is None, reason=peer.MISSING)
    return lambda test: pytest.mark.peer(name)(missing(test))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same work recorded with its content, and as shapes."""
    directory = tmp_path_factory.mktemp("stores")
    for capture in ("content", "shape"):
        with (
            simulated_endpoint(CONFIG) as upstream,
            proxy_in_front(upstream, directory / capture, capture=capture) as url,
        ):
            for task in TASKS:
                work(url, task, TURNS)
    return {capture: directory / capture for capture in ("content", "shape")}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """What the endpoint got, a line for each request."""
    return tmp_path / "truth.jsonl"


@pytest.fixture
def fresh(truth: Path) -> Iterator[str]:
    """The endpoint, with nothing in its cache."""
    with simulated_endpoint(CONFIG, truth) as url:
        yield url


def exported(source: Path, form: str, out: Path) -> Path:
    done = CliRunner().invoke(app, ["export", str(source), "--format", form, "-o", str(out)])
    assert done.exit_code == 0, done.exception
    return out


def recorded(store: Path) -> list[list[Call]]:
    """The calls of each trajectory."""
    trajectories = list(read_calls(str(store)).trajectories.values())
    assert [len(calls) for calls in trajectories] == [TURNS, TURNS]
    return trajectories


def by_session(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """AIPerf's records of each session, in order."""
    sessions: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda record: record["metadata"]["request_start_ns"]):
        sessions.setdefault(record["metadata"]["x_correlation_id"], []).append(record)
    return list(sessions.values())


def counted(record: dict[str, Any], name: str) -> int:
    return int(record["metrics"][peer_aiperf.COUNTS[name]]["value"])


@needs(peer_aiperf, "aiperf")
def test_aiperf_replays_shapes_as_weka_traces(stores: dict[str, Path], fresh: str, tmp_path: Path) -> None:
    directory = exported(stores["shape"], "weka", tmp_path / "traces")
    load = ("--input-file", str(directory), "--custom-dataset-type", "weka-trace", "--use-think-time-only")
    limits = ("--inter-turn-delay-cap-seconds", "0.5", "--concurrency", "1", "--num-conversations", str(len(TASKS)))
    theirs = by_session(peer_aiperf.run(peer_aiperf.found(), fresh, tmp_path / "out", *load, *limits))
    traces = [json.loads(path.read_text())["requests"] for path in directory.iterdir()]
    assert sorted(len(session) for session in theirs) == [TURNS, TURNS]
    for session in theirs:
        lengths = [counted(record, "output_tokens") for record in session]
        (trace,) = (trace for trace in traces if [call["out"] for call in trace] == lengths)
        for number, (call, record) in enumerate(zip(trace, session, strict=True)):
            # AIPerf makes text of the recorded length; what messages have around their text is beside it.
            messages = 2 * (number + 1)
            assert 0 <= counted(record, "input_tokens") - call["in"] <= 3 * messages
        for (before, call), record in zip(pairwise(trace), session[1:], strict=True):
            shared = len(set(before["hash_ids"]) & set(call["hash_ids"]))
            assert shared > 0
            # The endpoint's own blocks of 16 tokens begin elsewhere than the blocks of 64 of the trace.
            assert counted(record, "cached_input_tokens") >= 64 * shared - CONFIG.block_tokens


@needs(peer_aiperf, "aiperf")
def test_aiperf_replays_sessions_with_their_content(stores: dict[str, Path], fresh: str, tmp_path: Path) -> None:
    path = exported(stores["content"], "aiperf", tmp_path / "sessions.jsonl")
    load = ("--input-file", str(path), "--custom-dataset-type", "mooncake-trace", "--no-fixed-schedule")
    limits = ("--concurrency", "1", "--num-conversations", str(len(TASKS)))
    theirs = by_session(peer_aiperf.run(peer_aiperf.found(), fresh, tmp_path / "out", *load, *limits))
    for name in ("input_tokens", "output_tokens"):
        ours = [[getattr(call, name) for call in calls] for calls in recorded(stores["content"])]
        assert sorted([counted(record, name) for record in session] for session in theirs) == sorted(ours)


@needs(peer_guidellm, "guidellm")
def test_guidellm_replays_spans(stores: dict[str, Path], fresh: str, truth: Path, tmp_path: Path) -> None:
    path = exported(stores["content"], "guidellm-otel", tmp_path / "spans.jsonl")
    data = f"kind=otel,source.kind=json_file,source.path={path}"
    theirs = peer_guidellm.run(
        peer_guidellm.found(), fresh, tmp_path / "out.json", "--profile", "kind=replay", "--data", data
    )
    ours = [call for calls in recorded(stores["content"]) for call in calls]
    # Its report may lack the request that ended last.
    got = [json.loads(line) for line in truth.read_text().splitlines()]
    assert len(got) == len(ours)
    # It lets the model end an answer with tool calls where it likes; the others have the recorded length.
    lengths = Counter(request["output_tokens"] for request in got if not request["tool_calls"])
    assert lengths == Counter(call.output_tokens for call in ours if not call.tools_called)
    assert sum(lengths.values()) == len(ours) / 2
    first = [json.loads(record["request_args"])["body"] for record in theirs if record["info"]["node_id"] == "main_0"]
    assert len(first) == len(TASKS)
    for body in first:
        (task,) = (task for task in TASKS if f"the code of {task}" in json.dumps(body["messages"][0]))
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert f"{task}: find the bug" in json.dumps(body["messages"][1])


@needs(peer_agentperf_local, "agentperf-local")
def test_agentperf_local_replays_its_format(stores: dict[str, Path], fresh: str, tmp_path: Path) -> None:
    directory = exported(stores["content"], "agentperf-local", tmp_path / "replay")
    command = peer_agentperf_local.found()
    assert command is not None
    theirs = peer_agentperf_local.run(command, fresh, tmp_path / "out", directory / "manifest.json")
    ours = [call for calls in recorded(stores["content"]) for call in calls]
    assert [turn["tokens"]["server_output_tokens"] for turn in theirs] == [call.output_tokens for call in ours]
    # It puts some words before each prompt, and keeps no reasoning in the history.
    added = [
        turn["tokens"]["server_prompt_tokens"] - (call.input_tokens or 0)
        for turn, call in zip(theirs, ours, strict=True)
        if not any(part["type"] == "reasoning" for message in call.content or () for part in message["parts"])
    ]
    assert added
    assert all(0 <= tokens < 64 for tokens in added)
