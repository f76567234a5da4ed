"""The skeleton of a recording keeps lengths, structure and repetition, and no text."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.replay import load


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[1] / "tools" / "skeleton.py"
    spec = importlib.util.spec_from_file_location("skeleton", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(text=st.text())
def test_lengths_stay_in_characters_and_bytes(tool: ModuleType, text: str) -> None:
    filled = tool.fill(text)
    assert len(filled) == len(text)
    assert len(filled.encode("utf-8", "surrogatepass")) == len(text.encode("utf-8", "surrogatepass"))


@given(before=st.text(), inner=st.text(min_size=1), after=st.text())
def test_what_contains_a_text_still_contains_it(tool: ModuleType, before: str, inner: str, after: str) -> None:
    assert tool.fill(inner) in tool.fill(f"{before} {inner} {after}")


def test_words_numbers_and_capitals_are_replaced_and_the_rest_stays(tool: ModuleType) -> None:
    filled = tool.fill("Secret_KEY = 12345\n\t(secret)\\n")
    assert "ecret" not in filled
    assert "12345" not in filled
    assert filled[0].isupper()
    assert filled[7:10].isupper()
    assert filled[6] == "_"
    assert filled.endswith(")\\n")
    assert filled[:6].lower() == filled[21:27], "the same word has the same filler"


@given(value=st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text()), min_size=1))
def test_json_keeps_its_structure_and_names(tool: ModuleType, value: dict[str, object]) -> None:
    text = json.dumps(value)
    filled = tool.fill_json(text)
    assert len(filled) == len(text)
    made = json.loads(filled)
    assert list(made) == list(value)
    assert [type(each) for each in made.values()] == [type(each) for each in value.values()]


def test_a_recording_becomes_a_skeleton_that_plays_the_same(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "traces").mkdir(parents=True)
    history = [
        {"role": "user", "content": "private question"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "function": {"name": "bash", "arguments": '{"command": "cat private.txt"}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "private words"}]},
        {"role": "user", "content": "go on"},
    ]
    rows = [
        {
            "version": 1,
            "turn_id": f"t:{index}",
            "task_id": "t",
            "conversation_idx": index,
            "messages": history[:count],
            "tools": [{"type": "function", "function": {"name": "bash", "description": "private tool"}}],
            "target_output_tokens": 5,
            "simulated_tool_delay_ms_after": 10.0,
            "recorded_tool_calls_after": [
                {
                    "duration_ms": 10.0,
                    "tool_call_id": "c1",
                    "action": {"command": "cat private.txt", "tool_call_id": "c1"},
                }
            ],
        }
        for index, count in enumerate((1, 3, 4))
    ]
    (source / "traces" / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = {
        "name": "full",
        "version": 1,
        "tasks": [{"task_id": "t", "trace": "traces/t.jsonl", "tool_environment": {}}],
    }
    (source / "manifest.json").write_text(json.dumps(manifest))

    target = tmp_path / "small"
    monkeypatch.setattr(sys, "argv", ["skeleton.py", str(source), str(target), "t:2"])
    tool.main()

    written = (target / "traces" / "t.jsonl").read_text() + (target / "manifest.json").read_text()
    assert "private" not in written
    small, full = load(str(target)).tasks[0], load(str(source)).tasks[0]
    assert len(small.turns) == 2
    for mine, theirs in zip(small.turns, full.turns, strict=False):
        assert mine.tool_delay_s == theirs.tool_delay_s
        for new, old in zip(mine.messages, theirs.messages, strict=True):
            assert len(json.dumps(json.loads(new))) == len(json.dumps(json.loads(old)))
            assert json.loads(new)["role"] == json.loads(old)["role"]
    assert small.turns[0].messages[0] == small.turns[1].messages[0], "history still repeats"
    kept = json.loads((target / "manifest.json").read_text())["tasks"][0]
    assert (kept["model_calls"], kept["tool_calls"]) == (2, 2)
    assert "tool_environment" not in kept
