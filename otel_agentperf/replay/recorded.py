"""LLM calls as our own store has them: read from OTLP JSON lines, what a replay or an export needs of each.

A turn is its last attempt that came to a good end; auxiliary calls, failed turns and calls without a trajectory are
left out and counted. With `--capture content` a call has its messages, with `--capture shape` their roles, sizes and
hashes.
"""

import gzip
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from glob import glob
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import zstandard

from otel_agentperf import semconv
from otel_agentperf.errors import SourceError

__all__ = ["Call", "Calls", "Piece", "read_calls", "read_lines"]

NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Piece:
    """One message without its words."""

    role: str
    size: int
    """Bytes."""
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One turn. Times are wall time in s."""

    trajectory: str
    parent: str | None
    turn_id: str
    index: int
    agent: str | None
    domain: str | None
    model: str
    start_s: float
    end_s: float
    ttft_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    finish_reasons: tuple[str, ...]
    stream: bool
    system_bytes: int
    tools_bytes: int
    trace_id: str
    span_id: str
    content: tuple[dict[str, Any], ...] | None
    """Messages of the conventions, system instructions first; None without content capture."""
    output: tuple[dict[str, Any], ...] | None
    tools: list[Any] | None
    shape: tuple[Piece, ...] | None
    """None without any capture."""
    tools_called: tuple[str, ...]


@dataclass
class Calls:
    """The calls of a source, by trajectory and in order.

    Attributes:
        left_out: how many calls are not among them, by reason.
        broken_lines: lines that could not be read.
    """

    trajectories: dict[str, list[Call]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    broken_lines: int = 0

    def all(self) -> Iterator[Call]:
        """Every call."""
        for calls in self.trajectories.values():
            yield from calls


class _Value(msgspec.Struct):
    stringValue: str | None = None
    intValue: str | int | None = None
    doubleValue: float | None = None
    boolValue: bool | None = None
    arrayValue: dict[str, Any] | None = None


class _Attribute(msgspec.Struct):
    key: str
    value: _Value = msgspec.field(default_factory=_Value)


class _Span(msgspec.Struct):
    traceId: str = ""
    spanId: str = ""
    startTimeUnixNano: str | int = 0
    endTimeUnixNano: str | int = 0
    attributes: list[_Attribute] = []


class _Scope(msgspec.Struct):
    spans: list[_Span] = []


class _Resource(msgspec.Struct):
    scopeSpans: list[_Scope] = []


class _Line(msgspec.Struct):
    resourceSpans: list[_Resource]


_line_decoder: Final = msgspec.json.Decoder(_Line)
_messages_decoder: Final = msgspec.json.Decoder(list[dict[str, Any]])


def read_calls(source: str) -> Calls:
    """The calls of a store directory, a file, or a glob of OTLP JSON lines (plain, .gz, .zst).

    Raises:
        SourceError: nothing can be read there.
    """
    calls = Calls()
    turns: dict[str, Call] = {}
    attempts: dict[str, int] = {}
    tools: dict[str, list[str]] = {}
    for span in _spans(_streams(source), calls):
        attributes = {each.key: _plain(each.value) for each in span.attributes}
        operation = attributes.get(semconv.GEN_AI_OPERATION_NAME)
        if operation == semconv.OPERATION_EXECUTE_TOOL:
            turn = attributes.get(semconv.TOOL_TURN_ID)
            name = attributes.get(semconv.GEN_AI_TOOL_NAME)
            if isinstance(turn, str) and isinstance(name, str):
                tools.setdefault(turn, []).append(name)
            continue
        if operation not in (semconv.OPERATION_CHAT, semconv.OPERATION_GENERATE_CONTENT):
            continue
        reason = _why_not(attributes)
        if reason is not None:
            calls.left_out[reason] = calls.left_out.get(reason, 0) + 1
            continue
        call = _call(span, attributes)
        attempt = int(attributes.get(semconv.ATTEMPT_INDEX) or 0)
        if attempt >= attempts.get(call.turn_id, -1):
            attempts[call.turn_id] = attempt
            turns[call.turn_id] = call
    if not turns:
        raise SourceError(f"{source}: no turn of a trajectory came to a good end; there is nothing to play")
    for call in sorted(turns.values(), key=lambda call: (call.start_s, call.index)):
        named = replace(call, tools_called=tuple(tools.get(call.turn_id, ())))
        calls.trajectories.setdefault(call.trajectory, []).append(named)
    return calls


def read_lines(source: str) -> Iterator[bytes]:
    """The lines of a store directory, a file, or a glob of OTLP JSON lines (plain, .gz, .zst), as they are.

    Raises:
        SourceError: nothing can be read there.
    """
    for name, stream in _streams(source):
        try:
            with stream:
                yield from (line for line in _opened(name, stream) if line.strip())
        except (OSError, EOFError, zstandard.ZstdError) as exc:
            raise SourceError(f"{name}: {getattr(exc, 'strerror', None) or exc}") from exc


def _why_not(attributes: dict[str, Any]) -> str | None:
    if attributes.get(semconv.TURN_KIND) != semconv.KIND_TURN:
        return "no turn of a trajectory"
    status = attributes.get(semconv.STATUS)
    return None if status == semconv.Status.OK else f"status {status}"


def _call(span: _Span, attributes: dict[str, Any]) -> Call:
    start_s = int(span.startTimeUnixNano) / NS
    duration = attributes.get(semconv.TIME_END)
    content = _messages(attributes.get(semconv.GEN_AI_INPUT_MESSAGES))
    system = _messages(attributes.get(semconv.GEN_AI_SYSTEM_INSTRUCTIONS))
    if content is not None and system:
        content = ({"role": "system", "parts": list(system)}, *content)
    tools = _messages(attributes.get(semconv.GEN_AI_TOOL_DEFINITIONS))
    return Call(
        trajectory=str(attributes.get(semconv.TRAJECTORY_ID)),
        parent=attributes.get(semconv.TRAJECTORY_PARENT_ID),
        turn_id=str(attributes.get(semconv.TURN_ID)),
        index=int(attributes.get(semconv.TURN_INDEX) or 0),
        agent=attributes.get(semconv.GEN_AI_AGENT_NAME),
        domain=attributes.get(semconv.TASK_DOMAIN),
        model=str(attributes.get(semconv.GEN_AI_REQUEST_MODEL) or "unknown"),
        start_s=start_s,
        end_s=start_s + float(duration) if duration is not None else int(span.endTimeUnixNano) / NS,
        ttft_s=attributes.get(semconv.TIME_FIRST_OUTPUT),
        input_tokens=attributes.get(semconv.GEN_AI_USAGE_INPUT_TOKENS),
        output_tokens=attributes.get(semconv.GEN_AI_USAGE_OUTPUT_TOKENS),
        cached_tokens=attributes.get(semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS),
        finish_reasons=tuple(attributes.get(semconv.GEN_AI_RESPONSE_FINISH_REASONS) or ()),
        stream=bool(attributes.get(semconv.GEN_AI_REQUEST_STREAM)),
        system_bytes=int(attributes.get(semconv.CONTEXT_SYSTEM_BYTES) or 0),
        tools_bytes=int(attributes.get(semconv.CONTEXT_TOOLS_BYTES) or 0),
        trace_id=span.traceId,
        span_id=span.spanId,
        content=content,
        output=_messages(attributes.get(semconv.GEN_AI_OUTPUT_MESSAGES)),
        tools=list(tools) if tools is not None else None,
        shape=_shape(attributes.get(semconv.SHAPE_MESSAGES), content),
        tools_called=(),
    )


def _shape(told: Any, content: tuple[dict[str, Any], ...] | None) -> tuple[Piece, ...] | None:
    """From the attribute, else from the messages themselves."""
    if isinstance(told, str):
        pieces = []
        for word in told.split():
            role, _, rest = word.partition(":")
            size, _, digest = rest.partition(":")
            if size.isdigit():
                pieces.append(Piece(role, int(size), digest))
        return tuple(pieces)
    if content is None:
        return None
    encoded = [(message, msgspec.json.encode(message)) for message in content if message.get("role") != "system"]
    return tuple(
        Piece(str(message.get("role")), len(text), blake2b(text, digest_size=8).hexdigest())
        for message, text in encoded
    )


def _messages(text: Any) -> tuple[dict[str, Any], ...] | None:
    if not isinstance(text, str):
        return None
    try:
        return tuple(_messages_decoder.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _plain(value: _Value) -> Any:
    if value.stringValue is not None:
        return value.stringValue
    if value.intValue is not None:
        return int(value.intValue)
    if value.arrayValue is not None:
        items = value.arrayValue.get("values") or []
        return [next(iter(item.values()), None) for item in items if isinstance(item, dict)]
    return value.doubleValue if value.doubleValue is not None else value.boolValue


def _spans(streams: Iterable[tuple[str, BinaryIO]], calls: Calls) -> Iterator[_Span]:
    for name, stream in streams:
        try:
            with stream:
                for line in _opened(name, stream):
                    if not line.strip():
                        continue
                    try:
                        read = _line_decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        calls.broken_lines += 1
                        continue
                    for resource in read.resourceSpans:
                        for scope in resource.scopeSpans:
                            yield from scope.spans
        except (OSError, EOFError, zstandard.ZstdError) as exc:
            raise SourceError(f"{name}: {getattr(exc, 'strerror', None) or exc}") from exc


def _opened(name: str, stream: BinaryIO) -> Any:
    if name.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
    return gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else stream


def _streams(source: str) -> Iterator[tuple[str, BinaryIO]]:
    path = Path(source).expanduser()
    if path.is_dir():
        names = {entry.name for entry in path.glob("spans-*.jsonl*")}
        # Where a segment is there twice, the sealed one is complete.
        chosen = [path / name for name in sorted(names) if f"{name}.zst" not in names]
        if not chosen:
            raise SourceError(f"{source}: no trace store: it has no segments")
    else:
        chosen = [path] if path.exists() else [Path(name) for name in sorted(glob(str(path)))]
        if not chosen:
            raise SourceError(f"{source}: no such file or directory")
    for each in chosen:
        try:
            yield str(each), each.open("rb")
        except OSError as exc:
            raise SourceError(f"cannot read {each}: {exc.strerror}") from exc
