"""Recordings of other tools: read as they were, or refused with file and line. Recordings without words get words that
have the recorded number of tokens and share the recorded prefixes, as the simulator counts them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf.replay import Task, Turn, load
from otel_agentperf.replay.formats.shapes import Shape, Weaver
from otel_agentperf.replay.vocabulary import FourByteVocabulary, TokenizerVocabulary
from otel_agentperf.simulate.openai_chat import OpenAIChat
from otel_agentperf.simulate.tokens import ChainCache, special

BLOCK = 64


def counted(turn: Turn) -> tuple[int, list[int]]:
    """Tokens of a turn's prompt and the digests of its blocks of 16, as the simulator counts."""
    body = b'{"model":"m","messages":[%b]}' % b",".join(turn.messages)
    chain, digests = ChainCache(16).build(OpenAIChat().read(body).sections)
    # The endpoint adds where the answer begins.
    return chain.extend(special("assistant")).tokens, digests


def shared(one: Turn, other: Turn) -> int:
    """Leading tokens of two prompts that an engine with blocks of 16 shares."""
    count = 0
    for mine, theirs in zip(counted(one)[1], counted(other)[1], strict=False):
        if mine != theirs:
            break
        count += 16
    return count


def dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def roles(turn: Turn) -> list[str]:
    return [json.loads(message)["role"] for message in turn.messages]


def contents(turn: Turn) -> list[str]:
    return [json.loads(message)["content"] for message in turn.messages]


# --- Weka


def call(t: float, tokens: int, out: int, blocks: range | list[int], **more: Any) -> dict[str, Any]:
    return {"t": t, "type": "n", "model": "m", "in": tokens, "out": out, "hash_ids": list(blocks), "stop": ""} | more


def trace(*requests: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "trace_7",
        "models": ["m"],
        "block_size": BLOCK,
        "hash_id_scope": "local",
        "tool_tokens": 100,
        "system_tokens": 28,
        "requests": list(requests),
    } | more


def test_a_weka_trace_has_exact_tokens_and_shared_prefixes(tmp_path: Path) -> None:
    path = dump(
        tmp_path / "trace_0007.json",
        trace(
            call(0.0, 1000, 50, range(15), api_time=2.0, think_time=0.0),
            call(5.0, 1300, 20, range(20), api_time=1.0, think_time=3.0),
            # Blocks from the tenth on are new: the context was cut.
            call(9.0, 900, 10, [*range(10), *range(50, 54)], api_time=1.0, think_time=2.5),
        ),
    )
    recording = load(str(path))
    assert (recording.format, recording.name, recording.turns) == ("weka", "trace_0007", 3)
    (task,) = recording.tasks
    assert (task.id, task.context_tokens) == ("trace_7", 1320)
    first, second, third = task.turns
    assert [counted(turn)[0] for turn in task.turns] == [1000, 1300, 900]
    assert shared(first, second) == 1000 // 16 * 16
    assert shared(second, third) == 640
    assert [turn.target_output_tokens for turn in task.turns] == [50, 20, 10]
    assert [turn.tool_delay_s for turn in task.turns] == [3.0, 2.5, 0.0]
    assert roles(first) == ["system", "user"]
    assert roles(second) == ["system", "user", "assistant", "user"]
    assert second.messages[:2] == first.messages, "the history grows by messages"


def test_without_the_time_of_a_call_its_delay_is_the_gap(tmp_path: Path) -> None:
    path = dump(
        tmp_path / "trace.json",
        trace(call(0.0, 300, 5, range(4), think_time=0.0), call(7.5, 400, 5, range(6), api_time=1.0, think_time=7.5)),
    )
    assert load(str(path)).tasks[0].turns[0].tool_delay_s == 7.5


def test_sub_agents_start_with_the_answer_and_are_waited_for(tmp_path: Path) -> None:
    inner = [call(0.0, 200, 7, range(100, 103), api_time=2.0), call(5.0, 300, 8, range(100, 104), api_time=1.0)]
    agent = {"type": "subagent", "subagent_type": "Explore", "tool_tokens": 40, "system_tokens": 10}
    path = dump(
        tmp_path / "trace.json",
        trace(
            call(0.0, 640, 30, range(10), api_time=10.0, think_time=0.0),
            # Both began at 10.5; the times are of their ends.
            {**agent, "t": 30.5, "agent_id": "a1", "duration_ms": 20_000, "requests": inner},
            {**agent, "t": 60.5, "agent_id": "a2", "duration_ms": 50_000, "requests": inner},
            {**agent, "t": 999.0, "agent_id": "a3", "duration_ms": 900_000, "requests": inner},
            call(64.5, 900, 10, range(14), api_time=1.0, think_time=54.5),
            call(70.0, 950, 10, range(14), api_time=1.0, think_time=4.5),
        ),
    )
    (task,) = load(str(path)).tasks
    first, second, _ = task.turns
    assert [(branch.task.id, branch.joins) for branch in first.branches] == [("trace_7/a1", 1), ("trace_7/a2", 1)]
    assert [branch.delay_s for branch in first.branches] == [0.5, 0.5]
    assert first.tool_delay_s == 4.0, "counted from the end of the sub-agent that ended last"
    assert [(branch.task.id, branch.joins) for branch in second.branches] == [], "started before that turn"
    child = first.branches[0].task
    assert child.agent == "Explore"
    assert [counted(turn)[0] for turn in child.turns] == [200, 300]
    assert child.turns[0].tool_delay_s == 3.0
    twin = first.branches[1].task
    assert shared(child.turns[1], twin.turns[1]) == 300 // 64 * 64, (
        "equal ids are equal tokens, up to the last full one"
    )


def test_what_no_turn_waited_for_goes_on_beside(tmp_path: Path) -> None:
    inner = [call(0.0, 200, 7, range(100, 103), api_time=2.0)]
    path = dump(
        tmp_path / "trace.json",
        trace(
            call(0.0, 640, 30, range(10), api_time=10.0),
            {"type": "subagent", "t": 500.0, "agent_id": "a1", "duration_ms": 489_000, "requests": inner},
            call(14.0, 700, 30, range(10), api_time=10.0, think_time=4.0),
        ),
    )
    (task,) = load(str(path)).tasks
    assert [branch.joins for branch in task.turns[0].branches] == [2]
    assert task.turns[0].tool_delay_s == 4.0


lengths = st.lists(st.tuples(st.integers(4, 900), st.integers(1, 200)), min_size=1, max_size=8)


@given(lengths=lengths, kept=st.lists(st.integers(0, 14), min_size=8, max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_shape_is_exact_in_tokens_and_shares_at_least_its_blocks(
    lengths: list[tuple[int, int]], kept: list[int]
) -> None:
    """Each prompt keeps some leading blocks of the one before, and has new ones then."""
    shapes: list[Shape] = []
    fresh = iter(range(1000, 100_000))
    for (tokens, output), keep in zip(lengths, kept, strict=False):
        before = shapes[-1].blocks[:keep] if shapes else ()
        count = tokens // BLOCK
        blocks = (*before[:count], *(next(fresh) for _ in range(count - len(before[:count]))))
        shapes.append(Shape(input_tokens=tokens, output_tokens=output, blocks=blocks, tool_delay_s=0.0))
    turns = Weaver(FourByteVocabulary(), BLOCK, "s").turns(shapes, "here", system_tokens=70)
    assert [counted(turn)[0] for turn in turns] == [shape.input_tokens for shape in shapes]
    for index in range(1, len(shapes)):
        one, other = shapes[index - 1], shapes[index]
        equal = 0
        for mine, theirs in zip(one.blocks, other.blocks, strict=False):
            if mine != theirs:
                break
            equal += 1
        found = shared(turns[index - 1], turns[index])
        # Where a message has no room to begin, its beginning is of another role.
        room = min(one.input_tokens, other.input_tokens) - equal * BLOCK >= 3
        assert found >= equal * BLOCK - BLOCK or not room
        if equal < min(len(one.blocks), len(other.blocks)):
            assert found < (equal + 1) * BLOCK


def test_texts_of_different_keys_differ_and_are_as_long_as_wanted() -> None:
    vocabulary = FourByteVocabulary()
    texts = {"".join(vocabulary.pieces(f"key {index}", 40)) for index in range(2000)}
    assert len({text[:16] for text in texts}) == 2000
    assert {len(text) for text in texts} == {160}
    assert vocabulary.pieces("a", 20) == vocabulary.pieces("a", 20_000)[:20]


def test_a_tokenizer_makes_text_of_exactly_so_many_of_its_tokens(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers, trainers

    from otel_agentperf.simulate.prose import prose

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    words = [" ".join(FourByteVocabulary().pieces(str(index), 400)) for index in range(40)]
    text = b"".join(prose(0, 4000)).decode()
    trainer = trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([text, *words], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    vocabulary = TokenizerVocabulary(tmp_path)
    for count in (1, 4, 100, 5000):
        assert vocabulary.count("".join(vocabulary.pieces("k", count))) == count
    path = dump(tmp_path / "trace.json", trace(call(0.0, 1000, 50, range(15)), call(5.0, 1300, 20, range(20))))
    for turn, tokens in zip(load(str(path), vocabulary).tasks[0].turns, (1000, 1300), strict=True):
        assert sum(vocabulary.count(text) for text in contents(turn)) == tokens


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(SourceError, match="cannot read a tokenizer"):
        TokenizerVocabulary(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(UsageError, match="pip install tokenizers"):
        TokenizerVocabulary(tmp_path)


# --- Mooncake and AIPerf


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_mooncake_requests_share_the_prefixes_of_equal_ids(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "conversation_trace.jsonl",
        {"timestamp": 0, "input_length": 1500, "output_length": 50, "hash_ids": [0, 1, 2]},
        {"timestamp": 10, "input_length": 1200, "output_length": 5, "hash_ids": [0, 1, 9]},
        {"timestamp": 20, "input_length": 600, "output_length": 5, "hash_ids": [7, 1]},
    )
    recording = load(str(path))
    assert recording.format == "mooncake"
    first, second, third = (task.turns[0] for task in recording.tasks)
    assert [counted(turn)[0] for turn in (first, second, third)] == [1500, 1200, 600]
    assert shared(first, second) == 1024
    assert shared(first, third) == 0


def test_aiperfs_sessions_are_trajectories(tmp_path: Path) -> None:
    hello, answer = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}
    path = jsonl(
        tmp_path / "mt.jsonl",
        {"session_id": "s1", "messages": [hello], "output_length": 9},
        {"session_id": "s2", "text_input": "one", "output_length": 4},
        {"session_id": "s1", "messages": [hello, answer, hello], "output_length": 8, "delay": 1500},
        {"session_id": "s2", "text_input": "two", "output_length": 3, "delay": 250},
        {"session_id": "s3", "input_length": 100, "output_length": 20},
        {"session_id": "s3", "input_length": 50, "output_length": 20},
    )
    one, two, three = load(str(path)).tasks
    assert [task.id for task in (one, two, three)] == ["s1", "s2", "s3"]
    assert [json.loads(each) for each in one.turns[1].messages] == [hello, answer, hello]
    assert [turn.tool_delay_s for turn in one.turns] == [1.5, 0.0]
    assert roles(two.turns[1]) == ["user", "assistant", "user"]
    assert contents(two.turns[1])[0::2] == ["one", "two"]
    assert len(contents(two.turns[1])[1]) == 16, "an answer of four tokens"
    assert [counted(turn)[0] for turn in three.turns] == [100, 170]
    assert three.turns[0].tool_delay_s is None, "not told, so it is drawn"


# --- Conversations


def test_a_swe_agent_trajectory_asks_for_each_answer_with_all_before_it(tmp_path: Path) -> None:
    tool = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
    path = dump(
        tmp_path / "apple__beach-1.traj",
        {
            "environment": "e",
            "history": [
                {"role": "system", "content": "be brief", "agent": "main", "message_type": "system_prompt"},
                {"role": "user", "content": [{"type": "text", "text": "fix it"}], "agent": "main"},
                {"role": "assistant", "content": "looking", "tool_calls": [tool], "tool_call_ids": ["c1"]},
                {"role": "tool", "content": "a file", "tool_call_ids": ["c1"]},
                {"role": "assistant", "content": "four bytes", "thought": "t"},
            ],
            "trajectory": [{"action": "ls", "execution_time": 0.75}, {"action": "exit", "execution_time": 0.1}],
            "info": {},
        },
    )
    recording = load(str(path))
    assert recording.format == "swe-agent"
    (task,) = recording.tasks
    assert task.id == "apple__beach-1"
    first, second = task.turns
    assert (roles(first), contents(first)) == (["system", "user"], ["be brief", "fix it"])
    assert roles(second) == ["system", "user", "assistant", "tool"]
    assert json.loads(second.messages[3])["tool_call_id"] == "c1"
    assert (first.tool_delay_s, second.tool_delay_s) == (0.75, 0.1)
    assert first.tools_called == ("bash",)
    assert second.target_output_tokens == 3, "ten bytes"


@pytest.mark.parametrize("whole", [True, False])
def test_a_mini_swe_agent_trajectory_is_a_list_of_messages(tmp_path: Path, whole: bool) -> None:
    usage = {"response": {"usage": {"prompt_tokens": 40, "completion_tokens": 12}}}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "fix it"},
        {"role": "assistant", "content": "done", "extra": usage},
        {"role": "user", "content": "good"},
    ]
    path = dump(tmp_path / "local.traj.json", {"info": {}, "messages": messages} if whole else messages)
    recording = load(str(path))
    assert recording.format == "mini-swe-agent"
    (turn,) = recording.tasks[0].turns
    assert recording.tasks[0].id == "local"
    assert contents(turn) == ["be brief", "fix it"]
    assert (turn.target_output_tokens, turn.input_tokens, turn.tool_delay_s) == (12, 40, None)


def openhands() -> dict[str, Any]:
    def answer(at: str, call_id: str, response: str, tokens: int) -> dict[str, Any]:
        tool = {"id": call_id, "type": "function", "function": {"name": "execute_bash", "arguments": "{}"}}
        message = {"role": "assistant", "content": "I look", "tool_calls": [tool]}
        return {
            "timestamp": f"2025-04-30T10:00:{at}",
            "source": "agent",
            "action": "run",
            "args": {},
            "tool_call_metadata": {
                "tool_call_id": call_id,
                "model_response": {
                    "id": response,
                    "choices": [{"message": message}],
                    "usage": {"prompt_tokens": 100 * tokens, "completion_tokens": tokens},
                },
            },
        }

    def result(at: str, call_id: str) -> dict[str, Any]:
        return {
            "timestamp": f"2025-04-30T10:00:{at}",
            "source": "agent",
            "observation": "run",
            "content": "a file",
            "tool_call_metadata": {"tool_call_id": call_id},
        }

    tools = [{"type": "function", "function": {"name": "execute_bash", "parameters": {}}}]
    return {
        "instance_id": "apple__beach-4",
        "history": [
            {
                "timestamp": "2025-04-30T10:00:00",
                "source": "agent",
                "action": "system",
                "args": {"content": "be brief", "tools": tools},
            },
            {"timestamp": "2025-04-30T10:00:00", "source": "user", "action": "message", "args": {"content": "fix it"}},
            {"timestamp": "2025-04-30T10:00:00", "source": "user", "action": "recall", "args": {}},
            answer("10", "c1", "r1", 20),
            result("11", "c1"),
            answer("18", "c2", "r2", 30),
            result("19", "c2"),
        ],
        "metrics": {
            "response_latencies": [
                {"model": "m", "latency": 9.0, "response_id": "r1"},
                {"model": "m", "latency": 5.5, "response_id": "r2"},
            ]
        },
    }


def test_an_openhands_history_tells_its_calls_tokens_and_times(tmp_path: Path) -> None:
    recording = load(str(jsonl(tmp_path / "output.jsonl", openhands())))
    assert recording.format == "openhands"
    (task,) = recording.tasks
    first, second = task.turns
    assert (task.id, task.agent) == ("apple__beach-4", "OpenHands")
    assert roles(first) == ["system", "user"]
    assert roles(second) == ["system", "user", "assistant", "tool"]
    assert (first.input_tokens, first.target_output_tokens) == (2000, 20)
    assert (first.tool_delay_s, second.tool_delay_s) == (2.5, 0.0)
    assert first.tools is not None
    assert first.tools_called == ("execute_bash",)


def test_an_atif_trajectory_brings_its_sub_agents(tmp_path: Path) -> None:
    def agent(message: str, **more: Any) -> dict[str, Any]:
        return {"step_id": 1, "source": "agent", "message": message} | more

    child = {
        "schema_version": "ATIF-v1.8",
        "trajectory_id": "child",
        "agent": {"name": "scout"},
        "steps": [{"step_id": 1, "source": "user", "message": "look"}, agent("seen")],
    }
    path = dump(
        tmp_path / "run.json",
        {
            "schema_version": "ATIF-v1.8",
            "session_id": "s",
            "trajectory_id": "parent",
            "agent": {"name": "lead", "version": "1", "tool_definitions": [{"type": "function"}]},
            "steps": [
                {"step_id": 1, "source": "system", "message": "be brief"},
                {"step_id": 2, "source": "user", "message": [{"type": "text", "text": "fix it"}]},
                agent(
                    "I send a scout",
                    reasoning_content="hm",
                    tool_calls=[{"tool_call_id": "c1", "function_name": "task", "arguments": {"a": 1}}],
                    observation={
                        "results": [
                            {
                                "source_call_id": "c1",
                                "content": "seen",
                                "subagent_trajectory_ref": [{"trajectory_id": "child"}],
                            }
                        ]
                    },
                    metrics={"prompt_tokens": 90, "completion_tokens": 30},
                ),
                agent("done"),
            ],
            "subagent_trajectories": [child],
        },
    )
    recording = load(str(path))
    assert (recording.format, recording.turns) == ("atif", 3)
    (task,) = recording.tasks
    first, second = task.turns
    assert (task.id, task.agent) == ("parent", "lead")
    assert (first.input_tokens, first.target_output_tokens) == (90, 30)
    assert first.tools == b'[{"type": "function"}]'
    assert roles(second) == ["system", "user", "assistant", "tool"]
    assert json.loads(second.messages[2])["reasoning_content"] == "hm"
    assert [(branch.task.id, branch.task.agent, branch.joins) for branch in first.branches] == [("child", "scout", 1)]


# --- Files


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("a.traj", {"trajectory": []}, "a.traj: Object missing required field `history`"),
        ("a.traj", {"history": []}, "no answer of a model"),
        ("a.traj", {"history": [{"role": "user", "content": 7}]}, r"history\[0\]\.content"),
        ("a.traj.json", {"messages": "no"}, "a.traj.json"),
        ("t.json", {"id": "x", "block_size": 64, "requests": [], "hash_ids": []}, "no requests"),
        ("t.json", {"id": "x", "block_size": 0, "requests": [], "hash_id_scope": "local"}, "block_size"),
        ("t.json", trace({"type": "odd", "t": 1}), "odd"),
        ("t.json", trace(call(0, 2, 1, [])), "too few"),
        ("t.json", trace(call(0, -5, 1, [])), "in"),
        ("t.json", {"schema_version": "ATIF-v2.0", "steps": []}, "version ATIF-v2.0"),
        ("t.json", {"schema_version": "ATIF-v1.8", "steps": []}, "no answer"),
    ],
)
def test_malformed_recordings_are_refused_with_their_place(tmp_path: Path, name: str, value: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        load(str(dump(tmp_path / name, value)))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"timestamp": 0, "input_length": 5, "output_length": 1}, "x"], r"t\.jsonl:2"),
        ([{"timestamp": 0, "input_length": 5, "output_length": -1}], r"t\.jsonl:1.*output_length"),
        (
            [{"session_id": "s", "messages": [{"role": "user"}]}, {"session_id": "s", "text_input": "a"}],
            r"t\.jsonl:1: a request needs",
        ),
        ([{"session_id": "s", "messages": []}], "without messages"),
        ([{"session_id": "s", "messages": [{"content": "x"}]}], "role"),
        ([{"instance_id": "i", "history": []}], "no answer"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        load(str(jsonl(tmp_path / "t.jsonl", *rows)))


def test_a_time_that_is_none_is_named(tmp_path: Path) -> None:
    odd = openhands()
    odd["history"][3]["timestamp"] = "yesterday"
    with pytest.raises(SourceError, match=r"output\.jsonl:1: not a time: 'yesterday'"):
        load(str(jsonl(tmp_path / "output.jsonl", odd)))


def test_a_directory_of_traces_is_one_recording_with_ids_of_its_own(tmp_path: Path) -> None:
    for name in ("b", "a"):
        dump(tmp_path / "traces" / f"{name}.json", trace(call(0.0, 300 if name == "a" else 400, 5, range(4))))
    (tmp_path / "traces" / "LICENSE").write_text("words")
    recording = load(str(tmp_path / "traces"))
    assert [(task.id, task.turns[0].input_tokens) for task in recording.tasks] == [("trace_7", 300), ("trace_7~2", 400)]
    again = load(str(tmp_path / "traces"))
    assert again.digest == recording.digest
    dump(tmp_path / "traces" / "a.json", trace(call(0.0, 301, 5, range(4))))
    assert load(str(tmp_path / "traces")).digest != recording.digest


def test_limits_of_turns_reach_sub_agents() -> None:
    inner = Task("child", None, (TURN, TURN, TURN))
    from otel_agentperf.replay import Branch

    outer = Task("t", None, (msgspec_replace(TURN, branches=(Branch(inner, 0.0, 3),)), TURN, TURN))
    limited = outer.limited(2)
    assert len(limited.turns) == 2
    (branch,) = limited.turns[0].branches
    assert (len(branch.task.turns), branch.joins) == (2, 2)


TURN = Turn((b'{"role":"user","content":"x"}',), None, 1, None, 10, 0.0)


def msgspec_replace(turn: Turn, **changes: Any) -> Turn:
    from dataclasses import replace

    return replace(turn, **changes)


def test_the_json_of_messages_is_sound(tmp_path: Path) -> None:
    path = dump(tmp_path / "trace.json", trace(call(0.0, 1000, 50, range(15)), call(5.0, 1300, 20, range(20))))
    for turn in load(str(path)).tasks[0].turns:
        for message in turn.messages:
            assert set(msgspec.json.decode(message)) == {"role", "content"}
