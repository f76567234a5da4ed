"""Results of agentperf-local, the benchmark owner's replay: the directory with its `turns.jsonl` and `summary.json`.

Each record becomes the span of a call, each tool call the span of a tool; a task is a trajectory, and the run a
benchmark with one agent. Records hold durations but no moments: as one request is in flight at a time, turns are laid
one after another from the start of the run, each followed by its tools, so times of day are near and durations exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa
import xxhash

from otel_agentperf import semconv
from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.sources import rows
from otel_agentperf_analyzers.sources.base import Intake, Skipped

__all__ = ["AgentPerfLocal"]

_TURNS: Final = "turns.jsonl"
_SUMMARY: Final = "summary.json"
_FAILED: Final = "turn_failed"
_CLIENT, _INTERNAL = 3, 1


class _Timing(msgspec.Struct, frozen=True, gc=False):
    e2e_latency_ms: float | None = None
    time_to_first_byte_ms: float | None = None
    time_to_first_token_ms: float | None = None
    generation_ms: float | None = None


class _Tokens(msgspec.Struct, frozen=True, gc=False):
    server_prompt_tokens: int | None = None
    server_cached_prompt_tokens: int | None = None
    server_output_tokens: int | None = None
    local_output_tokens: int | None = None


class _Tool(msgspec.Struct, frozen=True, gc=False):
    replayed_duration_ms: float
    tool_name: str | None = None
    tool_call_id: str | None = None
    exception_info: str = ""


class _Turn(msgspec.Struct, frozen=True, gc=False):
    turn_id: str
    task_id: str
    success: bool
    timing: _Timing
    tokens: _Tokens
    tool_calls: tuple[_Tool, ...] = ()
    requested_max_output_tokens: int | None = None
    response_tool_calls: int = 0
    finish_reason: str | None = None
    aborted: bool = False


class _Config(msgspec.Struct, frozen=True):
    model: str | None = None
    base_url: str = ""


class _Summary(msgspec.Struct, frozen=True):
    run_id: str
    started_at: float
    config: _Config = _Config()


@dataclass(slots=True, frozen=True)
class AgentPerfLocal:
    """The output directory of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The directory."""
        return str(self.path)

    @classmethod
    def at(cls, path: Path) -> "AgentPerfLocal | None":
        """The run that a path names: its directory, or its `turns.jsonl`; None when it is none."""
        directory = path if path.is_dir() else path.parent
        is_named = path.is_dir() or path.name == _TURNS
        found = is_named and (directory / _TURNS).is_file() and (directory / _SUMMARY).is_file()
        return cls(directory) if found else None

    def read(self, intake: Intake) -> None:
        """Give the spans of all turns and tools."""
        turns = list(self._turns(intake.skipped))
        if not turns:
            example = f" ({intake.skipped.examples[0]})" if intake.skipped.examples else ""
            raise SourceError(f"{self.path / _TURNS} holds no turns of agentperf-local{example}")
        found = list(_spans(turns, self._summary()))
        intake.batch(
            pa.RecordBatch.from_pylist([dict.fromkeys(rows.SCHEMA.names) | span for span in found], rows.SCHEMA)
        )

    def _turns(self, skipped: Skipped) -> Iterator[_Turn]:
        path = self.path / _TURNS
        decode = msgspec.json.Decoder(_Turn).decode
        for number, line in enumerate(_bytes(path).splitlines(), 1):
            if line.strip():
                try:
                    yield decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                    skipped.line(str(path), number, f"not a turn of agentperf-local: {problem}")

    def _summary(self) -> _Summary:
        path = self.path / _SUMMARY
        try:
            return msgspec.json.decode(_bytes(path), type=_Summary)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise SourceError(f"{path} is not a summary of agentperf-local: {problem}") from problem


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise SourceError(f"cannot read {path}: {problem.strerror}") from problem


def _spans(turns: list[_Turn], summary: _Summary) -> Iterator[dict[str, Any]]:
    """A row for each turn and tool, in the columns of `rows.SCHEMA` that they have."""
    at_ns = round(summary.started_at * 1e9)
    last_of_task = {turn.task_id: number for number, turn in enumerate(turns)}
    index: dict[str, int] = {}
    for number, turn in enumerate(turns):
        position = index[turn.task_id] = index.get(turn.task_id, -1) + 1
        span_id = _id(summary.run_id, turn.turn_id)
        head = {
            "trace_id": _id(summary.run_id, turn.task_id) * 2,
            "service_name": "agentperf-local",
            "scope_name": "agentperf-local",
            "resource_attributes": [],
            "attributes": [],
            "content": [],
            "status_code": 0,
            semconv.TRAJECTORY_ID: f"{summary.run_id}/{turn.task_id}",
            semconv.TRAJECTORY_SOURCE: semconv.Source.LAUNCHER,
            semconv.RUN_ID: f"{summary.run_id}/{turn.task_id}",
            semconv.BENCHMARK_ID: summary.run_id,
            semconv.LEVEL: 1,
            semconv.AGENT_INDEX: 0,
            semconv.PHASE: semconv.PHASE_STEADY,
            semconv.TASK_ID: turn.task_id,
        }
        end_ns = at_ns + _ns(turn.timing.e2e_latency_ms)
        yield {
            **head,
            "span_id": span_id,
            "name": f"{semconv.OPERATION_CHAT} {summary.config.model or ''}".strip(),
            "kind": _CLIENT,
            "start_unix_ns": at_ns,
            "end_unix_ns": end_ns,
            semconv.TURN_INDEX: position,
            semconv.TRAJECTORY_FINAL: True if last_of_task[turn.task_id] == number else None,
            **_call(turn, summary.config),
        }
        at_ns = end_ns
        for count, tool in enumerate(turn.tool_calls):
            end_ns = at_ns + _ns(tool.replayed_duration_ms)
            yield {
                **head,
                "span_id": _id(summary.run_id, turn.turn_id, str(count)),
                "name": f"{semconv.OPERATION_EXECUTE_TOOL} {tool.tool_name or ''}".strip(),
                "kind": _INTERNAL,
                "start_unix_ns": at_ns,
                "end_unix_ns": end_ns,
                semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
                semconv.GEN_AI_TOOL_NAME: tool.tool_name,
                semconv.GEN_AI_TOOL_CALL_ID: tool.tool_call_id,
                semconv.TOOL_TURN_ID: turn.turn_id,
                semconv.TOOL_DURATION_SOURCE: semconv.DURATION_CLIENT,
                semconv.TOOL_ERROR: True if tool.exception_info else None,
            }
            at_ns = end_ns


def _call(turn: _Turn, config: _Config) -> dict[str, Any]:
    """What a record says of its call. A turn whose tools failed counts as failed, as agentperf-local has it."""
    timing, tokens = turn.timing, turn.tokens
    server = urlsplit(config.base_url)
    output = tokens.server_output_tokens
    source = semconv.USAGE_SERVER
    if output is None:
        output = tokens.local_output_tokens
        source = semconv.USAGE_NONE if output is None else semconv.USAGE_ESTIMATED
    first_s = _s(timing.time_to_first_token_ms)
    return {
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
        semconv.DIALECT: "openai.chat",
        semconv.GEN_AI_REQUEST_MODEL: config.model,
        semconv.GEN_AI_REQUEST_STREAM: True,
        semconv.GEN_AI_REQUEST_MAX_TOKENS: turn.requested_max_output_tokens,
        semconv.GEN_AI_RESPONSE_FINISH_REASONS: None if turn.finish_reason is None else [turn.finish_reason],
        semconv.SERVER_ADDRESS: server.hostname,
        semconv.SERVER_PORT: server.port,
        semconv.TURN_ID: turn.turn_id,
        semconv.TURN_KIND: semconv.KIND_TURN,
        semconv.REQUEST_ID: turn.turn_id,
        semconv.STATUS: semconv.Status.OK if turn.success else semconv.Status.ERROR,
        semconv.ERROR_TYPE: None if turn.success else _FAILED,
        semconv.TIME_FIRST_CHUNK: _s(timing.time_to_first_byte_ms),
        semconv.TIME_FIRST_OUTPUT: first_s,
        # A turn with a single output chunk has no window: its last output is its first.
        semconv.TIME_LAST_OUTPUT: None if first_s is None else first_s + (_s(timing.generation_ms) or 0.0),
        semconv.TIME_END: _s(timing.e2e_latency_ms) or 0.0,
        semconv.GEN_AI_USAGE_INPUT_TOKENS: tokens.server_prompt_tokens,
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: tokens.server_cached_prompt_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: output,
        semconv.USAGE_SOURCE: source,
        semconv.TOOL_CALL_COUNT: turn.response_tool_calls,
    }


def _s(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _ns(milliseconds: float | None) -> int:
    return round((milliseconds or 0.0) * 1e6)


def _id(*parts: str) -> str:
    """16 hex digits that only these parts have."""
    return xxhash.xxh3_64_hexdigest("\0".join(parts).encode())
