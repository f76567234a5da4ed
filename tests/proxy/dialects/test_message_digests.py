"""Canonical digests: equal meaning, equal digest; and the cache of messages."""

import pytest

from otel_agentperf_proxy.dialects import MessageCache, canonical, find
from otel_agentperf_proxy.facts import Message

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


def message(path: str, text: str, cache: MessageCache | None = None) -> Message:
    dialect = find("POST", path)
    assert dialect is not None
    facts = dialect.parse_request(b'{"messages": [' + text.encode() + b"]}", cache=cache)
    assert facts.problem is None
    assert len(facts.messages) == 1
    return facts.messages[0]


BOTH = [CHAT, MESSAGES]


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"role":"user","content":"hé"}', '{"content": [{"text": "h\\u00e9", "type": "text"}], "role": "user"}'),
        (
            '{"role":"user","content":"a"}',
            '{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}',
        ),
        (
            '{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}',
            '{"role":"user","content":"ab"}',
        ),
        (
            '{"role":"user","content":[{"type":"image","source":{"a":1,"b":"x"}}]}',
            '{"role":"user","content":[{"source":{"b":"x","a":1},"type":"image","cache_control":null}]}',
        ),
    ],
)
def test_equal_meaning_is_equal(path: str, one: str, other: str) -> None:
    assert message(path, one).digest == message(path, other).digest


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"role":"user","content":"a"}', '{"role":"user","content":"b"}'),
        ('{"role":"user","content":"a"}', '{"role":"assistant","content":"a"}'),
        ('{"role":"user","content":"a"}', '{"role":"user","content":[{"type":"text","text":"a"},{"type":"image"}]}'),
        ('{"role":"user","content":[{"type":"image","source":1}]}', '{"role":"user","content":[{"type":"image"}]}'),
    ],
)
def test_other_meaning_is_not(path: str, one: str, other: str) -> None:
    assert message(path, one).digest != message(path, other).digest


def chat_call(id: str, name: str, arguments: str) -> str:
    quoted = arguments.replace('"', '\\"')
    call = f'{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{quoted}"}}}}'
    return f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}'


def anthropic_call(id: str, name: str, arguments: str) -> str:
    block = f'{{"type":"tool_use","id":"{id}","name":"{name}","input":{arguments}}}'
    return f'{{"role":"assistant","content":[{block}]}}'


@pytest.mark.parametrize(("path", "call"), [(CHAT, chat_call), (MESSAGES, anthropic_call)])
def test_tool_calls_compare_by_id_name_and_parsed_arguments(path: str, call: object) -> None:
    assert callable(call)
    first = message(path, call("1", "f", '{"a": 1, "b": {"d": [1, 2], "c": "x"}}'))
    assert first.digest == message(path, call("1", "f", '{"b":{"c":"x","d":[1.0,2]},"a":1}')).digest
    others = [
        call("2", "f", '{"a": 1, "b": {"d": [1, 2], "c": "x"}}'),
        call("1", "g", '{"a": 1, "b": {"d": [1, 2], "c": "x"}}'),
        call("1", "f", '{"a": 1, "b": {"d": [2, 1], "c": "x"}}'),
    ]
    found = [message(path, other) for other in others]
    assert first.digest not in {other.digest for other in found}
    assert found[0].tool_calls[0].arguments_digest == first.tool_calls[0].arguments_digest
    assert found[2].tool_calls[0].arguments_digest != first.tool_calls[0].arguments_digest
    assert not first.has_text


def test_both_formats_agree_on_the_same_answer() -> None:
    assert message(CHAT, chat_call("1", "f", "{}")).digest == message(MESSAGES, anthropic_call("1", "f", "{}")).digest


def test_broken_arguments_compare_as_text() -> None:
    broken = message(CHAT, chat_call("1", "f", "{a: 1"))
    assert broken.digest == message(CHAT, chat_call("1", "f", "{a: 1")).digest
    assert broken.digest != message(CHAT, chat_call("1", "f", "{a: 2")).digest


def test_reasoning_is_left_out() -> None:
    plain = message(MESSAGES, '{"role":"assistant","content":"a"}')
    block = '{"type":"thinking","thinking":"t","signature":"s"},{"type":"redacted_thinking","data":"d"}'
    shown = message(MESSAGES, f'{{"role":"assistant","content":[{block},{{"type":"text","text":"a"}}]}}')
    assert shown.digest == plain.digest
    assert message(CHAT, '{"role":"assistant","content":"a","reasoning_content":"t"}').digest == plain.digest


@pytest.mark.parametrize(
    "result",
    ['"ok"', '[{"type":"text","text":"ok"}]', '[{"type":"text","text":"ok","cache_control":{"type":"ephemeral"}}]'],
)
def test_tool_results_compare_by_their_content(result: str) -> None:
    block = '{"type":"tool_result","tool_use_id":"1","content":"ok"}'
    plain = message(MESSAGES, f'{{"role":"user","content":[{block}]}}')
    other = f'{{"tool_use_id":"1","type":"tool_result","is_error":false,"content":{result}}}'
    found = message(MESSAGES, f'{{"role":"user","content":[{other}]}}')
    assert found.digest == plain.digest
    assert [item.size for item in found.tool_results] == [len(other)]
    failed = message(MESSAGES, f'{{"role":"user","content":[{block[:-1]},"is_error":true}}]}}')
    assert failed.digest != plain.digest
    assert failed.tool_results[0].is_error


@pytest.mark.parametrize("path", BOTH)
def test_a_text_can_be_compared_with_a_message(path: str) -> None:
    found = message(path, '{"role":"user","content":[{"type":"text","text":"List the files"}]}')
    assert found.digest == canonical.text_digest("user", "List the files")


def test_the_cache_gives_the_same_message_object_and_stays_bounded() -> None:
    cache = MessageCache(capacity=10)
    first = message(CHAT, '{"role":"user","content":"0"}', cache)
    for index in range(1, 10):
        message(CHAT, f'{{"role":"user","content":"{index}"}}', cache)
    assert message(CHAT, '{"role":"user","content":"0"}', cache) is first
    for index in range(10, 100):
        message(CHAT, f'{{"role":"user","content":"{index}"}}', cache)
        assert len(cache) <= 20
    again = message(CHAT, '{"role":"user","content":"0"}', cache)
    assert again is not first
    assert again == first


def test_the_cache_keeps_dialects_apart() -> None:
    cache = MessageCache()
    text = '{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"ok"}]}'
    assert message(CHAT, text, cache).tool_results == ()
    assert len(message(MESSAGES, text, cache).tool_results) == 1
