"""What the simulated model says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.simulate import SimulateConfig
from otel_agentperf.simulate.answers import Answer, Choice, Finish, Tool, Wish, write

_TOOLS = (
    Tool("bash", {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}),
    Tool("noop"),
    Tool("lire_é", {"type": "object", "properties": {"mode": {"enum": ["été", "hiver"]}}, "required": ["mode"]}),
)


def _write(wish: Wish, prompt_digest: int = 1, number: int = 1, **settings: object) -> Answer:
    return write(SimulateConfig(**settings), wish, prompt_digest, 1000, number)  # type: ignore[arg-type]


@given(
    st.integers(1, 400),
    st.booleans(),
    st.booleans(),
    st.sampled_from(list(Choice)),
    st.integers(0, 50),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_counted_tokens_are_the_tokens_said(budget, ignore_eos, reasoning, choice, digest, rate):
    wish = Wish(budget=budget, ignore_eos=ignore_eos, tools=_TOOLS, choice=choice, reasoning=reasoning)
    answer = _write(wish, digest, reasoning_rate=rate, tool_call_rate=rate)
    pieces = [*answer.reasoning, *answer.text, *[piece for call in answer.calls for piece in [b"", *call.pieces]]]
    assert len(pieces) == answer.tokens
    assert 1 <= answer.tokens <= budget
    assert answer.rendered.isascii() or answer.calls
    assert len(answer.rendered) == 4 * answer.tokens
    if ignore_eos:
        assert (answer.tokens, answer.finish) == (budget, Finish.LENGTH)
    if not reasoning or not rate:
        assert answer.reasoning == []
    if choice is Choice.NONE:
        assert answer.calls == []
    if answer.finish is Finish.TOOL_CALLS:
        assert all(call.complete and isinstance(json.loads(call.arguments), dict) for call in answer.calls)
    if answer.finish is Finish.STOP:
        assert answer.calls == []


def test_an_answer_depends_on_seed_and_prompt_and_only_ids_on_the_request():
    wish = Wish(budget=4000, tools=_TOOLS[:1], choice=Choice.REQUIRED)
    one, again = _write(wish, number=1), _write(wish, number=2)
    assert (one.reasoning, one.text) == (again.reasoning, again.text)
    assert [call.arguments for call in one.calls] == [call.arguments for call in again.calls]
    assert {call.id for call in one.calls}.isdisjoint({call.id for call in again.calls})
    assert _write(wish, number=1) == one
    assert _write(wish, prompt_digest=2) != one
    assert _write(wish, seed=5) != one
    assert _write(Wish(budget=4000, tools=_TOOLS[:1], choice=Choice.REQUIRED, seed=9)) != one


def test_ids_of_one_answer_differ():
    wish = Wish(budget=4000, tools=_TOOLS, choice=Choice.REQUIRED)
    many = [answer for digest in range(60) if len((answer := _write(wish, digest)).calls) > 1]
    assert many
    for answer in many:
        assert len({call.id for call in answer.calls}) == len(answer.calls)
    assert all(len(_write(Wish(budget=4000, tools=_TOOLS, parallel=False), digest).calls) <= 1 for digest in range(60))


def test_rates_are_those_of_the_configuration():
    wish = Wish(budget=100_000, tools=_TOOLS)
    answers = [_write(wish, digest, reasoning_rate=0.3, tool_call_rate=0.6) for digest in range(1000)]
    assert 250 < sum(bool(answer.reasoning) for answer in answers) < 350
    assert 550 < sum(bool(answer.calls) for answer in answers) < 650
    lengths = sorted(answer.tokens for answer in answers)
    assert 180 < lengths[500] < 220


def test_a_short_question_gets_a_short_answer():
    config = SimulateConfig(output_tokens=100_000)
    assert write(config, Wish(budget=50_000), 1, prompt_tokens=10, number=1).tokens <= 80


@pytest.mark.parametrize(
    ("schema", "kinds"),
    [
        ({"type": "integer"}, int),
        ({"type": "boolean"}, bool),
        ({"type": "array", "items": {"type": "string"}}, list),
        ({"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}, dict),
        ({"enum": ["x", "y"]}, str),
        ({"const": 7}, int),
        ({"type": ["null", "string"]}, str),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, int),
        ({"type": "null"}, type(None)),
        ({"$ref": "#/nowhere"}, str),
        (True, str),
        ({"type": 3}, str),
    ],
)
def test_arguments_follow_the_schema(schema, kinds):
    tool = Tool("t", {"type": "object", "properties": {"value": schema}, "required": ["value"]})
    answer = _write(Wish(budget=4000, tools=(tool,), choice=Choice.REQUIRED))
    assert isinstance(json.loads(answer.calls[0].arguments)["value"], kinds)


@pytest.mark.parametrize("schema", [None, [], "text", {"properties": []}, {"required": 5, "properties": {}}])
def test_a_schema_that_says_nothing_gives_empty_arguments(schema):
    answer = _write(Wish(budget=4000, tools=(Tool("t", schema),), choice=Choice.REQUIRED))
    assert answer.calls[0].arguments == b"{}"


def test_a_schema_that_never_ends_gives_arguments_that_do():
    schema: dict[str, object] = {"type": "object", "required": ["again"]}
    schema["properties"] = {"again": schema, "many": {"type": "array", "items": schema}}
    answer = _write(Wish(budget=100_000, tools=(Tool("t", schema),), choice=Choice.REQUIRED))
    assert json.loads(answer.calls[0].arguments)
