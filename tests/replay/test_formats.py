"""Recordings are found by name and by place, and read faithfully or refused with file and line."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf.errors import SourceError
from otel_agentperf.replay import load
from otel_agentperf.replay.formats import DEFAULT_REPLAY, bundled

HISTORY = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "list the files: é, →"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "ls", "arguments": '{"path": "."}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "a.txt"},
    {"role": "user", "content": "Remaining turns: 96."},
]
TOOL = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object", "properties": {}}}}


def row(index: int, length: int, **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "turn_id": f"t:{index}",
        "task_id": "t",
        "conversation_id": "t",
        "conversation_idx": index,
        "messages": HISTORY[:length],
        "tools": [TOOL],
        "target_output_tokens": 7 + index,
        "recorded_prompt_tokens": 100 * (index + 1),
        "simulated_tool_delay_ms_after": 250.5,
        "recorded_tool_calls_after": [],
        "unknown_member": {"of": "a later version"},
        **changes,
    }


def manifest(**changes: Any) -> dict[str, Any]:
    task = {"task_id": "t", "trace": "traces/t.jsonl", "family": "files", "model_calls": 2}
    return {
        "name": "made",
        "source": "test",
        "mode": "single_user_agentic_replay",
        "version": 1,
        "tasks": [task],
    } | changes


def lines(*rows: object) -> str:
    return "".join(f"{each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)}\n" for each in rows)


def write(directory: Path, *rows: object, name: str = "manifest.json", **changes: Any) -> Path:
    (directory / "traces").mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(json.dumps(manifest(**changes)))
    (directory / "traces" / "t.jsonl").write_text(lines(*(rows or (row(0, 2), row(1, 5)))), encoding="utf-8")
    return directory


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[..., Path]:
    """A wheel that holds replays of these names."""

    def build(*names: str) -> Path:
        path = tmp_path / "agentperf_local-9-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("agentperf_local/__init__.py", "")
            for name in names:
                root = f"agentperf_local/data/replays/{name}"
                archive.writestr(f"{root}/manifest.json", json.dumps(manifest()))
                archive.writestr(f"{root}/traces/t.jsonl", lines(row(0, 2), row(1, 5)))
        return path

    return build


def test_a_directory_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    recording = load(str(write(tmp_path / "my-replay")))
    assert (recording.name, recording.format, recording.turns) == ("my-replay", "agentperf-local", 2)
    (task,) = recording.tasks
    assert (task.id, task.domain, task.context_tokens) == ("t", "files", 208)
    first, second = task.turns
    assert [json.loads(each) for each in first.messages] == HISTORY[:2]
    assert [json.loads(each) for each in second.messages] == HISTORY
    assert first.tools is not None
    assert json.loads(first.tools) == [TOOL]
    assert (first.target_output_tokens, first.input_tokens, first.max_output_tokens) == (7, 100, None)
    assert first.tool_delay_s == pytest.approx(0.2505)


def test_turns_share_the_bytes_of_their_common_history(tmp_path: Path) -> None:
    first, second = load(str(write(tmp_path))).tasks[0].turns
    assert all(mine is theirs for mine, theirs in zip(first.messages, second.messages, strict=False))
    assert first.tools is second.tools


def test_a_manifest_is_as_good_as_its_directory(tmp_path: Path) -> None:
    directory = write(tmp_path / "made")
    assert load(str(directory / "manifest.json")).tasks == load(str(directory)).tasks
    assert load(str(directory / "manifest.json")).name == "made"


def test_of_several_manifests_the_one_of_this_machine_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, family in (("manifest-arm64.json", "arm"), ("manifest-x86_64.json", "intel")):
        write(tmp_path, name=name, tasks=[{"task_id": "t", "trace": "traces/t.jsonl", "family": family}])
    for machine, family in (("x86_64", "intel"), ("AMD64", "intel"), ("aarch64", "arm"), ("riscv64", "arm")):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert load(str(tmp_path)).tasks[0].domain == family, machine
    digests = {load(str(tmp_path / f"manifest-{each}.json")).digest for each in ("arm64", "x86_64")}
    assert len(digests) == 1, "the digest is of what is played, whatever the machine"


def test_the_digest_changes_with_the_data(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one"), write(tmp_path / "other", row(0, 2), row(1, 4))
    assert load(str(one)).digest != load(str(other)).digest
    assert load(str(one)).digest == load(str(write(tmp_path / "copy"))).digest


def test_a_wheel_gives_its_only_replay_the_named_one_or_the_default(wheel: Callable[..., Path]) -> None:
    path = wheel("small")
    assert load(str(path)).name == "small"
    assert load(f"{path}:small").turns == 2
    path = wheel("small", DEFAULT_REPLAY)
    assert load(str(path)).name == DEFAULT_REPLAY
    assert load(f"{path}:small").name == "small"
    path = wheel("small", "large")
    with pytest.raises(SourceError, match=r"with one of large, small"):
        load(str(path))


def test_a_directory_of_replays_works_like_a_wheel(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name)
    assert load(f"{tmp_path}:b").name == "b"
    with pytest.raises(SourceError, match=r"no replay named 'c'.*with one of a, b"):
        load(f"{tmp_path}:c")


def test_the_installed_package_is_read_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "agentperf_local"
    write(package / "data" / "replays" / "their-replay")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("their-replay").name == "their-replay"
    assert load("agentperf-local:their-replay").turns == 2
    assert load("agentperf-local").name == "their-replay"
    with pytest.raises(SourceError, match=r"known as mini, their-replay$"):
        load("nobody")


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_agentperf.replay.formats.places.find_spec", lambda _: None)
    with pytest.raises(SourceError, match=r"nobody: no such file.*known as mini \(and the package .* not installed\)"):
        load("nobody")
    with pytest.raises(SourceError, match="not installed"):
        load("agentperf-local:x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty: not a recording in a known format \(.*agentperf-local\)"):
        load(str(tmp_path / "empty"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SourceError, match="not a recording"):
        load(str(tmp_path / "notes.txt"))
    with pytest.raises(SourceError):
        load("a\0b")
    with pytest.raises(SourceError):
        load("x" * 5000)


def test_a_broken_wheel_is_refused(tmp_path: Path, wheel: Callable[..., Path]) -> None:
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"not a zip file")
    with pytest.raises(SourceError, match=r"broken\.whl: not a wheel"):
        load(str(broken))
    with pytest.raises(SourceError, match="a wheel without agentperf_local/data/replays"):
        load(str(wheel()))
    whole = wheel("small").read_bytes()
    at = whole.index(b"traces/t.jsonl") + len("traces/t.jsonl")
    broken.write_bytes(whole[:at] + bytes(20) + whole[at + 20 :])
    with pytest.raises(SourceError, match="damaged"):
        load(str(broken))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((row(0, 2), "{broken"), "t.jsonl:2: .*malformed"),
        ((row(0, 2), "", "[]"), "t.jsonl:3: Expected `object`"),
        ((row(0, 0),), "t.jsonl:1: a turn without messages"),
        ((row(0, 2), row(2, 5)), "t.jsonl:2: turn 2 where turn 1 belongs"),
        ((row(0, 2, task_id="u"),), "t.jsonl:1: a turn of task 'u' in the trace of 't'"),
        ((row(0, 2, version=2),), "t.jsonl:1: version 2"),
        ((row(0, 2, simulated_tool_delay_ms_after=-1),), "t.jsonl:1: .*simulated_tool_delay_ms_after"),
        ((row(0, 2, target_output_tokens="many"),), "t.jsonl:1: .*target_output_tokens"),
        ((row(0, 2, messages=[{"content": "no role"}]),), "t.jsonl:1: .*role"),
        ((row(0, 2, messages=["text"]),), "t.jsonl:1: Expected `object`"),
        ((row(0, 2, tools=["ls"]),), "t.jsonl:1: Expected `object`"),
        (({"version": 1},), "t.jsonl:1: .*missing required field"),
        (("", " "), "t.jsonl: no turns"),
    ],
)
def test_a_malformed_trace_is_refused_with_its_line(tmp_path: Path, rows: tuple[object, ...], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        load(str(write(tmp_path, *rows)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": []}, "no tasks"),
        ({"version": 7}, "version 7 of the format is not known"),
        ({"tasks": [{"task_id": "t", "trace": "../t.jsonl"}]}, "outside the recording"),
        ({"tasks": [{"task_id": "t", "trace": "/etc/passwd"}]}, "outside the recording"),
        ({"tasks": [{"task_id": "t", "trace": "traces/u.jsonl"}]}, r"u\.jsonl: no such file"),
        ({"tasks": [{"task_id": "t", "trace": "traces/t.jsonl"}] * 2}, "twice"),
        ({"tasks": [{"trace": "traces/t.jsonl"}]}, "task_id"),
        ({"tasks": "t"}, "Expected `array`"),
    ],
)
def test_a_malformed_manifest_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        load(str(write(tmp_path, **changes)))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    trace = write(tmp_path) / "traces" / "t.jsonl"
    trace.write_bytes(trace.read_bytes().replace("é".encode(), b"\xe9"))
    with pytest.raises(SourceError, match=r"t\.jsonl:1: "):
        load(str(tmp_path))


def test_the_bundled_recording_is_small_and_whole() -> None:
    recording = load("mini")
    assert 3 <= len(recording.tasks) <= 5
    assert all(turn.target_output_tokens for task in recording.tasks for turn in task.turns)
    assert len({len(task.turns) for task in recording.tasks}) > 1, "tasks of different length"
    (place,) = bundled()
    assert isinstance(place, Path)
    assert sum(each.stat().st_size for each in place.rglob("*") if each.is_file()) < 700_000
    assert "Apache License" in (place / "NOTICE").read_text()
