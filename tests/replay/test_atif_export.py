"""ATIF documents from recorded calls: valid by the format's own models, and the same conversation as was recorded."""

import json
from pathlib import Path
from typing import Any

import atif
import pytest
from recorded_store import Message, called, result, text, turn, write
from typer.testing import CliRunner

from otel_agentperf import semconv
from otel_agentperf.cli.main import app
from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats import load

ASKED = text("user", "what is here?")
LISTED = called("c1", "ls", {"path": "."}, words="let me see", thought="a listing would tell")
FOUND = result("c1", "a.txt")
SAID = text("assistant", "one file")


def exported(source: Path, out: Path) -> list[dict[str, Any]]:
    """The documents, each held against the format's models."""
    done = CliRunner().invoke(app, ["export", str(source), "--format", "atif", "-o", str(out)])
    assert done.exit_code == 0, (done.output, done.exception)
    documents = [json.loads(path.read_text()) for path in sorted(out.iterdir())]
    for document in documents:
        atif.Trajectory.model_validate(document)
    return documents


def simple(path: Path) -> Path:
    return write(
        path,
        turn("t1", 0, 0, [ASKED], LISTED),
        turn("t1", 1, 5, [ASKED, LISTED, FOUND], SAID),
        turn("t1", 2, 9, [ASKED, LISTED, FOUND, SAID, text("user", "thanks")], text("assistant", "welcome")),
    )


def test_a_conversation_becomes_its_steps(tmp_path: Path) -> None:
    [document] = exported(simple(tmp_path / "st"), tmp_path / "out")
    assert (document["schema_version"], document["trajectory_id"]) == ("ATIF-v1.8", "t1")
    assert document["agent"]["name"] == "coder"
    assert document["agent"]["tool_definitions"] == [{"type": "function", "function": {"name": "ls"}}]
    steps = document["steps"]
    assert [(step["step_id"], step["source"], step["message"]) for step in steps] == [
        (1, "system", "be brief"),
        (2, "user", "what is here?"),
        (3, "agent", "let me see"),
        (4, "agent", "one file"),
        (5, "user", "thanks"),
        (6, "agent", "welcome"),
    ]
    asked = steps[2]
    assert asked["reasoning_content"] == "a listing would tell"
    assert asked["tool_calls"] == [{"tool_call_id": "c1", "function_name": "ls", "arguments": {"path": "."}}]
    assert asked["observation"] == {"results": [{"source_call_id": "c1", "content": "a.txt"}]}
    assert (asked["timestamp"], steps[1]["timestamp"]) == ("2027-01-15T08:00:02Z", "2027-01-15T08:00:00Z")
    metrics = asked["metrics"]
    assert (metrics["prompt_tokens"], metrics["cached_tokens"], metrics["completion_tokens"]) == (100, 0, 40)
    assert metrics["extra"] == {"duration_s": 2.0, "ttft_s": 0.5}
    assert document["final_metrics"] == {
        "total_steps": 6,
        "total_prompt_tokens": 600,
        "total_completion_tokens": 120,
        "total_cached_tokens": 300,
    }


def test_what_is_exported_plays_as_the_store_does(tmp_path: Path) -> None:
    source = simple(tmp_path / "st")
    exported(source, tmp_path / "out")
    one, other = load(str(source)), load(str(tmp_path / "out"))
    assert other.format == "atif"

    def told(recording: Any) -> list[list[tuple[str, str | None]]]:
        return [
            [(message["role"], message.get("content")) for message in map(json.loads, each.messages)]
            for each in recording.tasks[0].turns
        ]

    assert told(other) == told(one)
    assert [each.target_output_tokens for each in other.tasks[0].turns] == [40, 40, 40]


def test_a_sub_agent_is_inside_and_referred_to_by_the_tool_that_asked(tmp_path: Path) -> None:
    delegated = called("c9", "task", {"prompt": "count the files"})
    done = result("c9", "there is one")
    source = write(
        tmp_path / "st",
        turn("t1", 0, 0, [ASKED], delegated),
        turn("kid", 0, 3, [text("user", "count the files")], SAID, **{semconv.TRAJECTORY_PARENT_ID: "t1"}),
        turn("stray", 0, 3, [text("user", "other words")], SAID, **{semconv.TRAJECTORY_PARENT_ID: "t1"}),
        turn("t1", 1, 6, [ASKED, delegated, done], SAID),
    )
    [document] = exported(source, tmp_path / "out")
    assert [each["trajectory_id"] for each in document["subagent_trajectories"]] == ["kid", "stray"]
    results = document["steps"][2]["observation"]["results"]
    assert results == [
        {
            "source_call_id": "c9",
            "content": "there is one",
            "subagent_trajectory_ref": [{"trajectory_id": "kid"}],
        },
        {"subagent_trajectory_ref": [{"trajectory_id": "stray"}]},
    ]
    branches = load(str(tmp_path / "out")).tasks[0].turns[0].branches
    assert {branch.task.id for branch in branches} == {"kid", "stray"}


def test_a_rewritten_history_tells_only_what_is_new(tmp_path: Path) -> None:
    summary = text("user", "so far: one file was found")
    source = write(
        tmp_path / "st",
        turn("t1", 0, 0, [ASKED], LISTED),
        turn("t1", 1, 5, [ASKED, LISTED, FOUND], SAID),
        turn("t1", 2, 9, [summary, ASKED], text("assistant", "as I said")),
    )
    [document] = exported(source, tmp_path / "out")
    assert [step["message"] for step in document["steps"]] == [
        "be brief",
        "what is here?",
        "let me see",
        "one file",
        "so far: one file was found",
        "as I said",
    ]


def test_answers_that_no_turn_gave_are_copied_context(tmp_path: Path) -> None:
    source = write(tmp_path / "st", turn("t1", 0, 0, [ASKED, LISTED, FOUND, text("user", "and?")], SAID))
    [document] = exported(source, tmp_path / "out")
    copied = document["steps"][2]
    assert (copied["source"], copied["is_copied_context"]) == ("agent", True)
    assert "metrics" not in copied
    assert copied["observation"]["results"][0]["content"] == "a.txt"
    assert "is_copied_context" not in document["steps"][-1]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [('{"a": 1}', {"a": 1}), ("free words", {"input": "free words"}), (None, {}), ([1], {"input": [1]})],
)
def test_arguments_become_an_object(tmp_path: Path, arguments: Any, wanted: dict[str, Any]) -> None:
    source = write(tmp_path / "st", turn("t1", 0, 0, [ASKED], called(None, "ls", arguments)))
    [document] = exported(source, tmp_path / "out")
    [call] = document["steps"][-1]["tool_calls"]
    assert (call["tool_call_id"], call["arguments"]) == ("call-0-0", wanted)


def test_results_of_unknown_calls_and_other_parts_are_kept(tmp_path: Path) -> None:
    picture: Message = {"role": "user", "parts": [{"type": "blob", "modality": "image", "content": "aGk="}]}
    source = write(tmp_path / "st", turn("t1", 0, 0, [picture, result("gone", {"k": [1]})], SAID))
    [document] = exported(source, tmp_path / "out")
    assert [step["message"] for step in document["steps"]] == ["be brief", "[image]", '{"k":[1]}', "one file"]


def test_without_messages_it_says_what_is_needed(tmp_path: Path) -> None:
    spans = turn("t1", 0, 0, [ASKED], SAID)
    spans["attributes"] = [each for each in spans["attributes"] if "messages" not in each["key"]]
    done = CliRunner().invoke(
        app, ["export", str(write(tmp_path / "st", spans)), "--format", "atif", "-o", str(tmp_path / "out")]
    )
    assert isinstance(done.exception, SourceError)
    assert "--capture content" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_turns_without_messages_are_counted(tmp_path: Path) -> None:
    bare = turn("t2", 0, 0, [ASKED], SAID)
    bare["attributes"] = [each for each in bare["attributes"] if "messages" not in each["key"]]
    source = write(tmp_path / "st", turn("t1", 0, 0, [ASKED], SAID), bare)
    done = CliRunner().invoke(app, ["export", str(source), "--format", "atif", "-o", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["t1.json"]
    assert "left out: 1 calls (no messages)" in done.stderr
