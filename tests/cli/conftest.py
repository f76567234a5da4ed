"""A small store written by hand, and the command run in it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf import semconv

NOON = datetime(2026, 7, 31, 12, tzinfo=UTC)
MODEL = "gpt-oss-120b"


def _value(value: object) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}


@dataclass
class Spans:
    """Spans with times in seconds after noon of 2026-07-31 UTC."""

    first_id: int = 1
    lines: list[str] = field(default_factory=list)

    def add(self, name: str, start_s: float, end_s: float, attributes: dict[str, object], kind: int = 3) -> None:
        number = self.first_id + len(self.lines)
        noon_ns = int(NOON.timestamp()) * 10**9
        span = {
            "traceId": f"{number:032x}",
            "spanId": f"{number:016x}",
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(noon_ns + round(start_s * 1e9)),
            "endTimeUnixNano": str(noon_ns + round(end_s * 1e9)),
            "attributes": [{"key": k, "value": _value(v)} for k, v in attributes.items() if v is not None],
            "status": {},
        }
        scope = {"scope": {"name": semconv.SCOPE_NAME}, "spans": [span]}
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "otel-agentperf"}}]}
        self.lines.append(json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}))

    def call(
        self,
        trajectory: str,
        turn: int,
        start_s: float,
        *,
        ttft_s: float = 0.5,
        e2e_s: float = 2.0,
        output_tokens: int = 91,
        status: str = "ok",
        tools: int = 0,
        **more: object,
    ) -> None:
        """One streamed turn of one attempt; the last output comes with the end."""
        failed = status != "ok"
        attributes: dict[str, object] = {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
            semconv.GEN_AI_PROVIDER_NAME: "openai",
            semconv.DIALECT: "openai.chat",
            semconv.GEN_AI_REQUEST_MODEL: MODEL,
            semconv.GEN_AI_RESPONSE_MODEL: MODEL,
            semconv.GEN_AI_REQUEST_STREAM: True,
            semconv.GEN_AI_AGENT_NAME: "coder",
            semconv.TRAJECTORY_ID: trajectory,
            semconv.TRAJECTORY_SOURCE: semconv.Source.LAUNCHER,
            semconv.RUN_ID: f"{trajectory}.run0",
            semconv.RUN_INDEX: 0,
            semconv.SEGMENT_INDEX: 0,
            semconv.TURN_ID: f"{trajectory}.{turn}",
            semconv.TURN_INDEX: turn,
            semconv.TURN_KIND: semconv.KIND_TURN,
            semconv.ATTEMPT_INDEX: 0,
            semconv.REQUEST_ID: f"req-{trajectory}-{turn}",
            semconv.STATUS: status,
            semconv.HTTP_RESPONSE_STATUS_CODE: 500 if failed else 200,
            semconv.ERROR_TYPE: "500" if failed else None,
            semconv.TIME_END: e2e_s,
            semconv.TIME_FIRST_CHUNK: None if failed else ttft_s,
            semconv.TIME_FIRST_OUTPUT: None if failed else ttft_s,
            semconv.TIME_FIRST_ANSWER: None if failed else ttft_s,
            semconv.TIME_LAST_OUTPUT: None if failed else e2e_s,
            semconv.TIME_SENT: 0.001,
            semconv.CHUNK_COUNT: None if failed else output_tokens,
            semconv.PROXY_OVERHEAD_S: 0.0004,
            semconv.USAGE_SOURCE: semconv.USAGE_NONE if failed else semconv.USAGE_SERVER,
            semconv.GEN_AI_USAGE_INPUT_TOKENS: None if failed else 1000,
            semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: None if failed else 800,
            semconv.GEN_AI_USAGE_OUTPUT_TOKENS: None if failed else output_tokens,
            semconv.GEN_AI_RESPONSE_FINISH_REASONS: None if failed else ["tool_calls" if tools else "stop"],
            semconv.TOOL_CALL_COUNT: tools,
        }
        self.add(f"chat {MODEL}", start_s, start_s + e2e_s, attributes | more)

    def tool(self, trajectory: str, turn: int, start_s: float, end_s: float, name: str = "bash") -> None:
        attributes: dict[str, object] = {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
            semconv.GEN_AI_TOOL_NAME: name,
            semconv.GEN_AI_TOOL_CALL_ID: f"call-{trajectory}-{turn}",
            semconv.TRAJECTORY_ID: trajectory,
            semconv.RUN_ID: f"{trajectory}.run0",
            semconv.TURN_INDEX: turn,
            semconv.TOOL_TURN_ID: f"{trajectory}.{turn}",
            semconv.TOOL_DURATION_SOURCE: semconv.DURATION_GAP,
        }
        self.add(f"execute_tool {name}", start_s, end_s, attributes, kind=1)

    def level(self, benchmark: str, agents: int, start_s: float, end_s: float, completed: int) -> None:
        attributes: dict[str, object] = {
            semconv.BENCHMARK_ID: benchmark,
            semconv.LEVEL: agents,
            semconv.LEVEL_COMPLETED: completed,
            semconv.LEVEL_PRESET: "smoke",
        }
        self.add(semconv.SPAN_LEVEL, start_s, end_s, attributes, kind=1)

    def job(self, benchmark: str, level: int, agent: int, number: int, start_s: float, **call: Any) -> None:
        """A trajectory of two turns with a tool of half a second between, played by an agent of a level."""
        trajectory = f"{benchmark}.{level}.{agent}.{number}"
        tags: dict[str, object] = {
            semconv.BENCHMARK_ID: benchmark,
            semconv.LEVEL: level,
            semconv.PHASE: semconv.PHASE_STEADY,
            semconv.AGENT_INDEX: agent,
        }
        e2e_s = call.get("e2e_s", 2.0)
        self.call(trajectory, 0, start_s, tools=1, **call, **tags)
        self.tool(trajectory, 0, start_s + e2e_s, start_s + e2e_s + 0.5)
        self.call(trajectory, 1, start_s + e2e_s + 0.5, **call, **tags, **{semconv.TRAJECTORY_FINAL: True})

    def write(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        (directory / "spans-test-0.jsonl").write_text("".join(f"{line}\n" for line in self.lines))


def two_agents() -> Spans:
    """Live traffic: `anna`, 3 turns with a tool between each; `bert`, an hour later, 2 turns, the last one failed."""
    spans = Spans()
    spans.call("anna", 0, 0, ttft_s=0.5, e2e_s=2.0, output_tokens=91, tools=1)
    spans.tool("anna", 0, 2, 3)
    spans.call("anna", 1, 3, ttft_s=0.25, e2e_s=1.25, output_tokens=101, tools=1)
    spans.tool("anna", 1, 4.25, 5.25, name="edit")
    spans.call("anna", 2, 5.25, ttft_s=1.0, e2e_s=3.0, output_tokens=61)
    spans.call("bert", 0, 3600, ttft_s=0.75, e2e_s=1.75, output_tokens=51, tools=1)
    spans.tool("bert", 0, 3601.75, 3602)
    spans.call("bert", 1, 3602, e2e_s=0.5, status="error")
    return spans


def two_levels() -> Spans:
    """A benchmark of a model that no policy knows, 10 s of 2 agents at 60 tok/s and 10 s of 4 agents at 20 tok/s."""
    spans = Spans(first_id=1000)
    other = {semconv.GEN_AI_REQUEST_MODEL: "sim", semconv.GEN_AI_RESPONSE_MODEL: "sim"}
    spans.level("mini-1", 2, 0, 10, completed=4)
    spans.level("mini-1", 4, 20, 30, completed=4)
    for agent in range(2):
        for number in range(2):
            spans.job("mini-1", 2, agent, number, number * 5, ttft_s=0.5, e2e_s=2.0, output_tokens=91, **other)
    for agent in range(4):
        spans.job("mini-1", 4, agent, 0, 20, ttft_s=1.5, e2e_s=3.0, output_tokens=31, **other)
    return spans


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the stores `agentperf-store` (of `two_agents`) and `levels` (of `two_levels`)."""
    two_agents().write(tmp_path / "agentperf-store")
    two_levels().write(tmp_path / "levels")
    return tmp_path


@dataclass
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows = json.loads(self.out)
        assert isinstance(rows, list)
        return rows


Command = Callable[..., Run]


@pytest.fixture
def otel(place: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run the command's own entry point in `place`, in this process; file descriptors are captured."""
    from otel_agentperf.cli import main

    monkeypatch.chdir(place)
    monkeypatch.delenv("OTEL_AGENTPERF_STORE", raising=False)

    def run(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["otel-agentperf", *arguments])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        assert b"Traceback" not in err
        return Run(code, out.decode(), err.decode())

    return run


@pytest.fixture
def process(place: Path) -> Command:
    """Run a shell line in `place`; `otel-agentperf` is this interpreter's."""

    def run(line: str) -> Run:
        environment = {key: value for key, value in os.environ.items() if key != "OTEL_AGENTPERF_STORE"}
        function = f'otel-agentperf() {{ "{sys.executable}" -m otel_agentperf "$@"; }}; {line}'
        done = subprocess.run(["bash", "-c", function], cwd=place, env=environment, capture_output=True, timeout=60)
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def spans() -> Spans:
    """No spans yet."""
    return Spans()
