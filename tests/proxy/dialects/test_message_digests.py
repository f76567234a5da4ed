"""Canonical digests: equal meaning, equal digest; and the cache of messages."""

import pytest

from otel_agentperf_proxy.dialects import MessageCache, find
from otel_agentperf_proxy.facts import Message

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
GEMINI = "/v1beta/models/m:generateContent"
OLLAMA = "/api/chat"

HISTORY = {RESPONSES: "input", GEMINI: "contents"}
"""Where a request of the dialect has its messages, unless in `messages`."""


def message(path: str, text: str, cache: MessageCache | None = None) -> Message:
    dialect = find("POST", path)
    assert dialect is not None
    field = HISTORY.get(path, "messages")
    facts = dialect.parse_request(f'{{"{field}": [{text}]}}'.encode(), cache=cache)
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


def test_formats_agree_on_a_plain_message() -> None:
    plain = message(CHAT, '{"role":"user","content":"a"}').digest
    assert message(RESPONSES, '{"role":"user","content":[{"type":"input_text","text":"a"}]}').digest == plain
    assert message(GEMINI, '{"role":"user","parts":[{"text":"a"}]}').digest == plain
    assert message(GEMINI, '{"parts":[{"text":""},{"text":"a","thoughtSignature":"s"}]}').digest == plain
    assert message(OLLAMA, '{"role":"user","content":"a"}').digest == plain


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            '{"type":"function_call","id":"fc_1","status":"completed","call_id":"1","name":"f",'
            '"arguments":"{\\"a\\": 1}"}',
            '{"type":"function_call","call_id":"1","name":"f","arguments":"{\\"a\\":1.0}"}',
        ),
        (
            '{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"x"}}',
            '{"type":"web_search_call","action":{"query":"x","type":"search"}}',
        ),
        (
            '{"type":"function_call_output","id":"o_1","call_id":"1","output":"ok"}',
            '{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"ok"}]}',
        ),
        (
            '{"type":"message","id":"m","role":"assistant","status":"completed","phase":"final_answer",'
            '"content":[{"type":"output_text","text":"a","annotations":[{"type":"url_citation"}],"logprobs":[]}]}',
            '{"role":"assistant","content":"a"}',
        ),
    ],
)
def test_items_compare_without_what_clients_leave_out(one: str, other: str) -> None:
    assert message(RESPONSES, one).digest == message(RESPONSES, other).digest


def test_reasoning_items_are_no_messages_and_their_bytes_count() -> None:
    dialect = find("POST", RESPONSES)
    assert dialect is not None
    user = '{"role":"user","content":"a"}'
    reasoning = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"}'
    plain = dialect.parse_request(f'{{"input": [{user}]}}'.encode())
    resent = dialect.parse_request(f'{{"input": [{user}, {reasoning}]}}'.encode())
    assert resent.messages == plain.messages
    assert resent.message_bytes == plain.message_bytes + len(reasoning)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        (GEMINI, '{"role":"model","parts":[{"functionCall":{"name":"f","args":{"a":1}}}]}'),
        (OLLAMA, '{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}'),
    ],
)
def test_ids_that_clients_make_up_do_not_count(path: str, call: str) -> None:
    plain = message(path, call)
    called = (
        call.replace('{"name":"f"', '{"id":"f_0","name":"f"')
        if path == GEMINI
        else call.replace('[{"function"', '[{"id":"f_0","function"')
    )
    named = message(path, called)
    assert named.digest == plain.digest
    assert [item.id for item in (*plain.tool_calls, *named.tool_calls)] == [None, "f_0"]
    assert message(path, call.replace(":1", ":2")).digest != plain.digest


def test_results_of_gemini_compare_without_ids_and_tell_errors() -> None:
    result = '{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"ok"}}}]}'
    plain = message(GEMINI, result)
    assert message(GEMINI, result.replace('{"name"', '{"id":"f_0","name"')).digest == plain.digest
    failed = message(GEMINI, result.replace("output", "error"))
    assert failed.digest != plain.digest
    assert [item.is_error for item in (*plain.tool_results, *failed.tool_results)] == [False, True]


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
def test_a_text_can_be_compared_with_a_message_that_is_no_longer_kept(path: str) -> None:
    found = message(
        path, '{"role":"user","content":[{"type":"text","text":"List the files"},{"type":"text","text":"Now"}]}'
    )
    alone = message(path, '{"role":"user","content":" List the files\\n"}')
    assert alone.texts
    assert found.texts.startswith(alone.texts)


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
