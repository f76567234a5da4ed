"""What the proxy recorded is played again, and exported in the formats of other tools: same tokens, same prefixes."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from typer.testing import CliRunner

from otel_agentperf import semconv
from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.cli.main import app
from otel_agentperf.errors import SourceError
from otel_agentperf.replay import Recording, ToolDelays, load, play
from otel_agentperf.replay.recorded import read_calls
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source

NS = 10**9


def value(given: Any) -> dict[str, Any]:
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    if isinstance(given, float):
        return {"doubleValue": given}
    if isinstance(given, list):
        return {"arrayValue": {"values": [value(each) for each in given]}}
    return {"stringValue": given}


def span(start_s: float, **attributes: Any) -> dict[str, Any]:
    named = {getattr(semconv, name): given for name, given in attributes.items() if given is not None}
    return {
        "traceId": "0" * 31 + "1",
        "spanId": f"{round(start_s * 1000):016x}",
        "name": "chat m",
        "startTimeUnixNano": str(round((1_800_000_000 + start_s) * NS)),
        "endTimeUnixNano": str(round((1_800_000_000 + start_s + 9) * NS)),
        "attributes": [{"key": name, "value": value(given)} for name, given in named.items()],
    }


def turn(start_s: float, index: int, tokens: int, shape: str | None, *, of: str = "t1", **more: Any) -> dict[str, Any]:
    """A turn of two seconds."""
    return span(
        start_s,
        **{
            "GEN_AI_OPERATION_NAME": "chat",
            "GEN_AI_REQUEST_MODEL": "m",
            "TRAJECTORY_ID": of,
            "TURN_ID": f"{of}/{index}",
            "TURN_INDEX": index,
            "TURN_KIND": "turn",
            "STATUS": "ok",
            "TIME_END": 2.0,
            "GEN_AI_USAGE_INPUT_TOKENS": tokens,
            "GEN_AI_USAGE_OUTPUT_TOKENS": 40,
            "CONTEXT_SYSTEM_BYTES": 400,
            "SHAPE_MESSAGES": shape,
        }
        | more,
    )


def line(*spans: dict[str, Any]) -> str:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}) + "\n"


def store(path: Path, *spans: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "spans-a-000000.jsonl").write_text(line(*spans))
    return path


FIRST = "user:4000:aa"
SECOND = f"{FIRST} assistant:160:bb tool:800:cc"


def texts(recording: Recording, task: int, turn: int) -> list[str]:
    return [json.loads(each)["content"] for each in recording.tasks[task].turns[turn].messages]


def test_a_shape_becomes_a_prompt_of_the_recorded_tokens(tmp_path: Path) -> None:
    path = store(tmp_path / "st", turn(0, 0, 1100, FIRST), turn(5, 1, 1350, SECOND))
    recording = load(str(path))
    assert (recording.name, recording.format) == ("st", "store")
    (task,) = recording.tasks
    assert [turn.input_tokens for turn in task.turns] == [1100, 1350]
    assert [turn.target_output_tokens for turn in task.turns] == [40, 40]
    assert [turn.tool_delay_s for turn in task.turns] == [3.0, 0.0]
    first, second = texts(recording, 0, 0), texts(recording, 0, 1)
    assert second[:2] == first, "the history is the same"
    assert len(first[0]) == 4 * (100 - 2), "the system prompt has its share of the tokens"
    for index, tokens in enumerate((1100, 1350)):
        found = texts(recording, 0, index)
        assert sum(len(text) // 4 + 2 for text in found) + 1 == tokens
    roles = [json.loads(each)["role"] for each in task.turns[1].messages]
    assert roles == ["system", "user", "assistant", "user"], "no tool result without its call"


def test_what_did_not_come_to_a_good_end_is_left_out_and_counted(tmp_path: Path) -> None:
    path = store(
        tmp_path / "st",
        turn(0, 0, 1100, FIRST),
        turn(5, 1, 1350, SECOND, STATUS="error"),
        turn(9, 1, 1350, SECOND, ATTEMPT_INDEX=1),
        turn(12, 2, 500, FIRST, TURN_KIND="auxiliary"),
        turn(14, 3, 500, FIRST, STATUS="cancelled"),
        span(16, GEN_AI_OPERATION_NAME="execute_tool", TOOL_TURN_ID="t1/0", GEN_AI_TOOL_NAME="bash"),
    )
    calls = read_calls(str(path))
    assert [call.index for call in calls.all()] == [0, 1]
    assert calls.left_out == {"status error": 1, "no turn of a trajectory": 1, "status cancelled": 1}
    assert load(str(path)).tasks[0].turns[0].tools_called == ("bash",)


def test_sub_agents_are_branches_of_their_parents(tmp_path: Path) -> None:
    child = {"of": "t2", "TRAJECTORY_PARENT_ID": "t1", "GEN_AI_AGENT_NAME": "scout"}
    path = store(
        tmp_path / "st",
        turn(0, 0, 1100, FIRST),
        turn(2.5, 0, 300, "user:900:dd", **child),
        turn(6, 1, 400, "user:900:dd user:100:ee", **child),
        turn(9, 1, 1350, SECOND),
    )
    (task,) = load(str(path)).tasks
    (branch,) = task.turns[0].branches
    assert (branch.task.id, branch.task.agent, branch.joins) == ("t2", "scout", 1)
    assert branch.delay_s == pytest.approx(0.5)
    assert task.turns[0].tool_delay_s == pytest.approx(1.0), "from the end of the sub-agent"


def test_system_prompts_are_shared_where_the_server_found_them_in_its_cache(tmp_path: Path) -> None:
    cached, fresh = (
        store(
            tmp_path / name,
            turn(0, 0, 1100, FIRST, GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS=tokens),
            turn(1, 0, 1100, FIRST, of="t2", GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS=tokens),
        )
        for name, tokens in (("cached", 96), ("fresh", 0))
    )
    one = load(str(cached))
    assert texts(one, 0, 0)[0] == texts(one, 1, 0)[0]
    other = load(str(fresh))
    assert texts(other, 0, 0)[0] != texts(other, 1, 0)[0]


def test_a_store_is_read_as_it_lies_there(tmp_path: Path) -> None:
    path = store(tmp_path / "st", turn(0, 0, 1100, FIRST))
    (path / "spans-a-000001.jsonl").write_text("torn {")
    sealed = zstandard.compress(line(turn(5, 1, 1350, SECOND)).encode())
    (path / "spans-a-000002.jsonl.zst").write_bytes(sealed)
    (path / "spans-a-000002.jsonl").write_text("an older copy of the same, half gone")
    (path / "store.json").write_text("{}")
    calls = read_calls(str(path))
    assert [call.index for call in calls.all()] == [0, 1]
    assert calls.broken_lines == 1
    packed = tmp_path / "spans.jsonl.gz"
    packed.write_bytes(gzip.compress(line(turn(0, 0, 1100, FIRST)).encode()))
    assert [call.index for call in read_calls(str(packed)).all()] == [0]


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([turn(0, 0, 1100, None)], "recorded without the shape of its prompts.*--capture shape"),
        ([turn(0, 0, 1100, FIRST, STATUS="error")], "no turn of a trajectory came to a good end"),
        ([turn(0, 0, 1100, FIRST, GEN_AI_USAGE_INPUT_TOKENS=None)], "both a shape and a token count"),
    ],
)
def test_a_store_that_lacks_what_is_needed_says_so(tmp_path: Path, spans: list[Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        load(str(store(tmp_path / "st", *spans)))


# --- Exports


MESSAGES = [
    {"role": "user", "parts": [{"type": "text", "content": "list the files"}]},
    {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "ls", "arguments": {"path": "."}}]},
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "a.txt"}]},
]


def with_content(path: Path) -> Path:
    def told(start_s: float, index: int, tokens: int, count: int) -> dict[str, Any]:
        return turn(
            start_s,
            index,
            tokens,
            None,
            GEN_AI_INPUT_MESSAGES=json.dumps(MESSAGES[:count]),
            GEN_AI_SYSTEM_INSTRUCTIONS=json.dumps([{"type": "text", "content": "be brief"}]),
            GEN_AI_OUTPUT_MESSAGES=json.dumps([{"role": "assistant", "parts": [], "finish_reason": "stop"}]),
            GEN_AI_TOOL_DEFINITIONS=json.dumps([{"type": "function", "function": {"name": "ls"}}]),
            GEN_AI_RESPONSE_FINISH_REASONS=["stop"],
        )

    tool = span(2, GEN_AI_OPERATION_NAME="execute_tool", TOOL_TURN_ID="t1/0", GEN_AI_TOOL_NAME="ls")
    return store(path, told(0, 0, 300, 1), tool, told(5, 1, 500, 3))


def exported(source: Path, form: str, out: Path) -> Path:
    done = CliRunner().invoke(app, ["export", str(source), "--format", form, "-o", str(out)])
    assert done.exit_code == 0, (done.output, done.exception)
    return out


def test_agentperf_locals_format_plays_as_the_store_does(tmp_path: Path) -> None:
    source = with_content(tmp_path / "st")
    one, other = load(str(source)), load(str(exported(source, "agentperf-local", tmp_path / "out")))
    assert other.format == "agentperf-local"
    assert [turn.messages for turn in other.tasks[0].turns] == [turn.messages for turn in one.tasks[0].turns]
    assert other.tasks[0].turns[0].tool_delay_s == 3.0
    (task,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["tasks"]
    assert (task["source_recording"], task["required_context_tokens"]) == ("t1", 540)
    rows = [json.loads(row) for row in (tmp_path / "out" / task["trace"]).read_text().splitlines()]
    assert [row["recorded_tool_calls_after"] for row in rows] == [[{"tool_name": "ls", "duration_ms": 3000.0}], []]
    assert (task["tool_calls"], task["total_recorded_tool_delay_ms"]) == (1, 3000.0)
    roles = [json.loads(each)["role"] for each in other.tasks[0].turns[1].messages]
    assert roles == ["system", "user", "assistant", "tool"]


def test_aiperfs_sessions_play_as_the_store_does(tmp_path: Path) -> None:
    source = with_content(tmp_path / "st")
    path = exported(source, "aiperf", tmp_path / "session.jsonl")
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    assert [row["session_id"] for row in rows] == ["t1", "t1"]
    assert [row["output_length"] for row in rows] == [40, 40]
    assert [row.get("delay") for row in rows] == [None, 3000.0]
    assert rows[0]["tools"][0]["function"]["name"] == "ls"
    again = load(str(path))
    assert [turn.messages for turn in again.tasks[0].turns] == [
        turn.messages for turn in load(str(source)).tasks[0].turns
    ]


def test_guidellms_spans_have_their_messages_and_tokens(tmp_path: Path) -> None:
    path = exported(with_content(tmp_path / "st"), "guidellm-otel", tmp_path / "otel.jsonl")
    (session,) = [json.loads(row) for row in path.read_text().splitlines()]
    assert session["trace_id"] == "t1"
    first, second = session["spans"]
    assert first["start_time"] == "2027-01-15T08:00:00Z"
    assert first["status"] == {"code": 1}
    assert first["duration"] == 2.0
    attributes = second["attributes"]
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (500, 40)
    assert [message["role"] for message in json.loads(attributes["gen_ai.input.messages"])] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]


SAID = {"type": "text", "content": "live words"}
CALLED = MESSAGES[1]["parts"][0]
RESULT = MESSAGES[2]
HUMAN = {"role": "user", "parts": [{"type": "text", "content": "and now?"}]}


@pytest.mark.parametrize(
    ("parts", "reason", "after", "told"),
    [
        ([CALLED], "tool_calls", [MESSAGES[1], RESULT], ([CALLED], "tool_calls")),
        ([SAID], "length", [{"role": "assistant", "parts": [SAID]}, HUMAN], ([SAID], "length")),
        # The next call goes on with another answer: a recording was played.
        ([SAID], "length", [MESSAGES[1], RESULT], ([CALLED], "tool_calls")),
        ([CALLED], "tool_calls", [{"role": "assistant", "parts": [SAID]}, HUMAN], ([SAID], "stop")),
        # Tool calls that no results alone come after.
        ([SAID, CALLED], "tool_calls", None, ([SAID], "stop")),
        ([CALLED], "tool_calls", [MESSAGES[1], RESULT, HUMAN], ([], "stop")),
        ([], "tool_use", [HUMAN], ([], "stop")),
    ],
)
def test_guidellms_answers_are_those_that_the_next_call_goes_on_from(
    tmp_path: Path, parts: Any, reason: str, after: list[Any] | None, told: tuple[Any, str]
) -> None:
    def call(index: int, messages: list[Any], **more: Any) -> dict[str, Any]:
        return turn(5.0 * index, index, 300, None, GEN_AI_INPUT_MESSAGES=json.dumps(messages), **more)

    answer = [{"role": "assistant", "parts": parts, "finish_reason": reason}]
    ended = {"GEN_AI_OUTPUT_MESSAGES": json.dumps(answer), "GEN_AI_RESPONSE_FINISH_REASONS": [reason]}
    calls = [call(0, MESSAGES[:1], **ended)]
    if after is not None:
        calls.append(call(1, [MESSAGES[0], *after]))
    path = exported(store(tmp_path / "st", *calls), "guidellm-otel", tmp_path / "otel.jsonl")
    first = json.loads(path.read_text())["spans"][0]["attributes"]
    (output,) = json.loads(first["gen_ai.output.messages"])
    assert (output["parts"], output["finish_reason"]) == told
    assert first["gen_ai.response.finish_reasons"] == [told[1]]


def test_wekas_traces_share_the_blocks_that_the_prompts_share(tmp_path: Path) -> None:
    child = {"of": "t2", "TRAJECTORY_PARENT_ID": "t1", "GEN_AI_AGENT_NAME": "scout"}
    source = store(
        tmp_path / "st",
        turn(0, 0, 1100, FIRST),
        turn(2.5, 0, 300, "user:900:dd", **child),
        turn(9, 1, 1350, SECOND, GEN_AI_REQUEST_STREAM=True, TIME_FIRST_OUTPUT=0.25),
    )
    (path,) = exported(source, "weka", tmp_path / "out").iterdir()
    trace = json.loads(path.read_text())
    first, agent, second = trace["requests"]
    assert (first["in"], first["out"], first["api_time"]) == (1100, 40, 2.0)
    assert (second["type"], second["ttft"], second["think_time"]) == ("s", 0.25, 7.0)
    assert len(first["hash_ids"]) == 1100 // 64
    assert second["hash_ids"][: len(first["hash_ids"])] == first["hash_ids"]
    assert (agent["type"], agent["t"], agent["duration_ms"]) == ("subagent", 4.5, 2000)
    assert not set(agent["requests"][0]["hash_ids"]) & set(first["hash_ids"])
    recording = load(str(path))
    assert recording.format == "weka"
    assert [turn.input_tokens for turn in recording.tasks[0].turns] == [1100, 1350]
    assert recording.tasks[0].turns[0].branches[0].task.agent == "scout"


def test_spans_go_to_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    path = exported(with_content(tmp_path / "st"), "parquet", tmp_path / "spans.parquet")
    assert parquet.read_table(path).num_rows == 3


@pytest.mark.parametrize("form", ["aiperf", "guidellm-otel", "agentperf-local"])
def test_a_format_that_needs_words_says_so(tmp_path: Path, form: str) -> None:
    source = store(tmp_path / "st", turn(0, 0, 1100, FIRST))
    done = CliRunner().invoke(app, ["export", str(source), "--format", form, "-o", str(tmp_path / "out")])
    assert isinstance(done.exception, SourceError)
    assert "--capture content" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    source = with_content(tmp_path / "st")
    done = CliRunner().invoke(app, ["export", str(source), "--format", "weka", "-o", str(source)])
    assert "name a new directory" in str(done.exception)
    done = CliRunner().invoke(app, ["export", "jaeger+http://h", "--format", "weka", "-o", str(tmp_path / "x")])
    assert "store directory" in str(done.exception)


@pytest.mark.parametrize("capture", ["shape", "content"])
async def test_recorded_traffic_played_again_has_the_same_tokens_and_cache(
    tmp_path: Path, make: Any, capture: str
) -> None:
    """Each trajectory, live and again: the endpoint counts the same tokens in prompt, answer and cache of each turn."""
    config = SimulateConfig(decode_ms=0.1, prefill_tokens_per_s=1e7)

    async def played(recording: Recording, name: str, prefix: str, **settings: Any) -> list[dict[str, Any]]:
        with (
            simulated_endpoint(config) as upstream,
            proxy_in_front(upstream, tmp_path / name, **settings) as url,
        ):
            plan = make.settings(
                url,
                model="simulated",
                trajectories=len(recording.tasks),
                tool_delays=ToolDelays(fixed_s=0.0),
                cache_prefix=prefix,
            )
            (level,) = (await play(recording, plan)).levels
            assert level.errors == {}
        with open_source(str(tmp_path / name)) as database:
            return database.query("SELECT * FROM turns ORDER BY start_time").to_pylist()

    live = load("mini").limited(4)
    # The agent may have begun a further trajectory when the last one was over.
    whole = {f"b1-1-0-{number}" for number in range(len(live.tasks))}
    before = {
        (turn["trajectory_id"], turn["turn_index"]): turn
        for turn in await played(live, "st", "system", capture=capture)
        if turn["trajectory_id"] in whole
    }
    again = load(str(tmp_path / "st")).only(whole)
    after = {
        (turn["task_id"], turn["turn_index"]): turn
        for turn in await played(again, "again", "none")
        if turn["trajectory_id"] in whole
    }
    assert after.keys() == before.keys()
    assert len(after) == live.turns
    for key, turn in before.items():
        assert after[key]["output_tokens"] == turn["output_tokens"]
        # Arguments of tool calls are kept as JSON, not as the client had spaced it.
        spaced = turn["input_tokens"] / 500 if capture == "content" else 0
        assert 0 <= turn["input_tokens"] - after[key]["input_tokens"] <= spaced
        if turn["turn_index"]:
            assert abs(after[key]["cached_input_tokens"] - turn["cached_input_tokens"]) <= config.block_tokens
    text = b"".join(path.read_bytes() for path in (tmp_path / "st").glob("*.jsonl*"))
    raw = b"".join(
        zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        for path in (tmp_path / "st").glob("*.zst")
    )
    words = json.loads(live.tasks[0].turns[0].messages[0])["content"][:40].encode()
    assert (words in text + raw) == (capture == "content"), "a shape holds no words"
