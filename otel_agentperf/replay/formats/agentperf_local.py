"""The format of agentperf-local: a manifest, and one file of JSON lines per task with one turn per line.

`manifest.json`, or one per machine as `manifest-x86_64.json` and `manifest-arm64.json` (they differ in the images of
live tools and share the traces); `traces/*.jsonl`, each line a turn with its whole history in `messages`.
"""

import hashlib
import platform
import zipfile
import zlib
from dataclasses import replace
from importlib.resources.abc import Traversable
from itertools import pairwise
from typing import Annotated, Any, Final, TypeVar

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.recording import Pieces, Recording, Task, Turn, called_tools

__all__ = ["AgentPerfLocal"]

VERSION: Final = 1
"""The only version of the format there is."""

_MACHINES: Final = {"aarch64": "arm64", "arm64": "arm64", "amd64": "x86_64", "x86_64": "x86_64"}

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Duration = Annotated[float, msgspec.Meta(ge=0)]
_T = TypeVar("_T")


class _ManifestTask(msgspec.Struct):
    task_id: _Text
    trace: _Text
    family: str | None = None


class _Manifest(msgspec.Struct):
    version: int
    name: _Text
    tasks: list[_ManifestTask]


class _Row(msgspec.Struct):
    version: int
    turn_id: _Text
    task_id: _Text
    conversation_idx: _Count
    messages: list[msgspec.Raw]
    simulated_tool_delay_ms_after: _Duration
    tools: list[msgspec.Raw] = []
    target_output_tokens: _Count | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    recorded_prompt_tokens: _Count | None = None


class _Message(msgspec.Struct):
    role: _Text
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


_manifest_decoder = msgspec.json.Decoder(_Manifest)
_row_decoder = msgspec.json.Decoder(_Row)
_message_decoder = msgspec.json.Decoder(_Message)
_tool_decoder = msgspec.json.Decoder(dict[str, Any])


class AgentPerfLocal:
    """Reads a directory with a manifest, or the manifest itself."""

    name = "agentperf-local"

    def recognises(self, place: Traversable) -> bool:
        if place.is_dir():
            return bool(_manifests(place))
        return place.is_file() and place.name.endswith(".json")

    def load(self, place: Traversable) -> Recording:
        directory, path = (place, _manifest_of(place)) if place.is_dir() else (_parent(place), place)
        manifest = _decode(_manifest_decoder, _read(path), str(path))
        if manifest.version != VERSION:
            raise SourceError(f"{path}: version {manifest.version} of the format is not known, only {VERSION}")
        if not manifest.tasks:
            raise SourceError(f"{path}: no tasks")
        if len({task.task_id for task in manifest.tasks}) < len(manifest.tasks):
            raise SourceError(f"{path}: a task id is there twice")
        digest = hashlib.sha256()
        pieces = Pieces()
        tasks = []
        for entry in manifest.tasks:
            parts = entry.trace.split("/")
            if entry.trace.startswith("/") or ".." in parts:
                raise SourceError(f"{path}: the trace of task {entry.task_id} lies outside the recording")
            trace = directory.joinpath(*parts)
            data = _read(trace)
            digest.update(b"%b\0%d\0" % (entry.task_id.encode(), len(data)))
            digest.update(data)
            tasks.append(Task(entry.task_id, entry.family, _turns(data, str(trace), entry.task_id, pieces)))
        return Recording(directory.name or manifest.name, self.name, digest.hexdigest(), str(place), tuple(tasks))


def _turns(data: bytes, where: str, task_id: str, pieces: Pieces) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        at = f"{where}:{number}"
        row = _decode(_row_decoder, line, at)
        if row.version != VERSION:
            raise SourceError(f"{at}: version {row.version} of the format is not known, only {VERSION}")
        if row.task_id != task_id:
            raise SourceError(f"{at}: a turn of task {row.task_id!r} in the trace of {task_id!r}")
        if row.conversation_idx != len(turns):
            raise SourceError(f"{at}: turn {row.conversation_idx} where turn {len(turns)} belongs")
        if not row.messages:
            raise SourceError(f"{at}: a turn without messages")
        turns.append(
            Turn(
                tuple(_shared(raw, pieces, _message_decoder, at) for raw in row.messages),
                _tools(row.tools, pieces, at),
                row.target_output_tokens,
                row.max_output_tokens,
                row.recorded_prompt_tokens,
                row.simulated_tool_delay_ms_after / 1000,
            )
        )
    if not turns:
        raise SourceError(f"{where}: no turns")
    named = [replace(turn, tools_called=called_tools(turn.messages, later.messages)) for turn, later in pairwise(turns)]
    return (*named, turns[-1])


def _tools(tools: list[msgspec.Raw], pieces: Pieces, at: str) -> bytes | None:
    if not tools:
        return None
    parts = [_shared(raw, pieces, _tool_decoder, at) for raw in tools]
    return pieces.share(b"[%b]" % b",".join(parts))[0]


def _shared(raw: msgspec.Raw, pieces: Pieces, decoder: msgspec.json.Decoder[Any], at: str) -> bytes:
    """The one copy of a JSON value; decoded, to see that it is sound, only when it is new."""
    piece, new = pieces.share(bytes(raw))
    if new:
        _decode(decoder, piece, at)
    return piece


def _decode(decoder: "msgspec.json.Decoder[_T]", data: bytes, at: str) -> _T:
    try:
        return decoder.decode(data)
    except UnicodeDecodeError as exc:
        raise SourceError(f"{at}: not UTF-8") from exc
    except msgspec.DecodeError as exc:
        raise SourceError(f"{at}: {exc}") from exc


def _read(path: Traversable) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, KeyError) as exc:
        raise SourceError(f"{path}: no such file") from exc
    except OSError as exc:
        raise SourceError(f"{path}: {exc.strerror or exc}") from exc
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise SourceError(f"{path}: the wheel is damaged: {exc}") from exc


def _manifests(directory: Traversable) -> dict[str, Traversable]:
    return {
        entry.name: entry
        for entry in directory.iterdir()
        if entry.name.startswith("manifest") and entry.name.endswith(".json")
    }


def _manifest_of(directory: Traversable) -> Traversable:
    """The manifest of a directory: the only one, the plain one, this machine's, else the first by name."""
    found = _manifests(directory)
    machine = platform.machine().lower()
    for name in ("manifest.json", f"manifest-{_MACHINES.get(machine, machine)}.json", *sorted(found)):
        if name in found:
            return found[name]
    raise SourceError(f"{directory}: no manifest.json")


def _parent(path: Traversable) -> Traversable:
    parent = getattr(path, "parent", None)
    if parent is None:
        raise SourceError(f"{path}: not a file whose directory can be read")
    return parent  # type: ignore[no-any-return]
