"""Link keys: what of two calls belongs together has equal keys, and nothing else can be told from them."""

from dataclasses import replace

import captures
import pytest
from captures import TENANT, Exchange, attributes, interleaved, load, play_fleet, spans

from otel_agentperf import semconv
from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.dialects import MessageCache, find
from otel_agentperf_proxy.facts import Identity, Message, RequestFacts, ResponseFacts, ToolCall, ToolResult
from otel_agentperf_proxy.observer import Observer
from otel_agentperf_proxy.observing import with_salt
from otel_agentperf_proxy.trajectory import Linker
from otel_agentperf_proxy.trajectory.link_keys import KEY_BYTES, MAX_CALLS, LinkKeys

SALT, OTHER_SALT = b"\x5a" * 32, b"\xa5" * 32

KEY_CHARS = KEY_BYTES * 4 // 3


def keys(
    request: RequestFacts,
    response: ResponseFacts | None = None,
    *,
    salt: bytes = SALT,
    tenant: str = TENANT,
    status: str = "ok",
    identity: Identity | None = None,
) -> str:
    placement = Linker().place(
        tenant=tenant,
        identity=identity,
        request=request,
        tags={},
        t0_ns=1,
        trace_id=bytes(16),
        span_id=bytes(8),
        parent_span_id=None,
        identity_key=None,
    )
    return LinkKeys(salt).of(tenant, placement, identity, request, response, status)


def word(words: str, kind: str) -> str | None:
    """The first key of a kind, without what follows it."""
    return next((one[1 : 1 + KEY_CHARS] for one in words.split() if one[0] == kind), None)


def asked(text: str = "u1") -> Message:
    return Message("user", text.encode().ljust(16), 100, texts=text.encode().ljust(8))


def request(*messages: Message, dialect: str = "openai.chat") -> RequestFacts:
    return RequestFacts(dialect, "chat", "openai", messages=messages)


def calls(*ids: str | None) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(one, "bash", b"digest", ("list all files of the folder",)) for one in ids)


def answer(*ids: str | None, digest: bytes = b"answer".ljust(16)) -> Message:
    return Message("assistant", digest, 50, tool_calls=calls(*ids), has_text=False)


def results(*ids: str | None) -> Message:
    return Message("tool", repr(ids).encode(), 30, tool_results=tuple(ToolResult(one, False, 10) for one in ids))


RANDOM = "call_8f14e45fceea167a"


@pytest.mark.parametrize("ids", [(RANDOM,), ("call_0",), (RANDOM, "call_1")])
def test_what_goes_on_from_an_answer_names_it(ids):
    before = keys(request(asked()), ResponseFacts(tool_calls=calls(*ids), message_digest=b"other".ljust(16)))
    after = keys(request(asked(), answer(*ids), results(*ids)))
    assert word(after, "b") == word(before, "R") is not None
    assert word(after, "p") == word(before, "e")
    assert {one[1 : 1 + KEY_CHARS] for one in after.split() if one[0] == "r"} == {
        one[1 : 1 + KEY_CHARS] for one in before.split() if one[0] == "t"
    }


def test_without_ids_the_words_of_the_answer_tell():
    before = keys(request(asked()), ResponseFacts(message_digest=b"answer".ljust(16), terminal=True))
    assert word(keys(request(asked(), answer(), asked("u2"))), "b") == word(before, "R")
    assert word(keys(request(asked(), answer(digest=b"other".ljust(16)), asked("u2"))), "b") != word(before, "R")


def test_where_clients_make_ids_up_the_place_of_a_call_tells():
    before = keys(
        request(asked(), dialect="gemini.generate"),
        ResponseFacts(tool_calls=calls(None, None), message_digest=b"answer".ljust(16)),
    )
    after = keys(
        request(asked(), answer("made_up_1", "made_up_2"), results("made_up_1", "made_up_2"), dialect="gemini.generate")
    )
    assert word(after, "b") == word(before, "R")
    assert [one[1 : 1 + KEY_CHARS] for one in after.split() if one[0] == "r"] == [
        one[1 : 1 + KEY_CHARS] for one in before.split() if one[0] == "t"
    ]


def test_an_id_that_is_counted_only_tells_within_its_conversation():
    def called(text: str, call_id: str) -> str | None:
        return word(keys(request(asked(text)), ResponseFacts(tool_calls=calls(call_id))), "t")

    assert called("u1", "call_0") != called("u2", "call_0")
    assert called("u1", RANDOM) == called("u2", RANDOM)


def test_an_error_has_no_answer():
    words = keys(request(asked()), ResponseFacts(message_digest=b"answer".ljust(16)), status="error")
    assert word(words, "R") is None
    assert word(words, "e") is not None


def test_neither_salts_nor_tenants_meet():
    response = ResponseFacts(tool_calls=calls(RANDOM, "call_0"), message_digest=b"answer".ljust(16), id="resp_1")
    facts = request(asked(), answer(RANDOM), results(RANDOM), dialect="openai.responses")
    identity = Identity("header", "session", run_key="turn-1")
    told = [
        {one for one in keys(facts, response, identity=identity, **options).split() if len(one) > 2}
        for options in ({}, {"salt": OTHER_SALT}, {"tenant": "3333cccc4444dddd"})
    ]
    assert told[0]
    assert not told[0] & told[1]
    assert not told[0] & told[2]
    assert told[0] == {one for one in keys(facts, response, identity=identity).split() if len(one) > 2}


def test_they_are_bounded():
    many = [f"{RANDOM}{number}" for number in range(1000)]
    long = tuple(
        replace(call, name="tool with a name " * 50, string_arguments=("words " * 9,) * 9) for call in calls(*many)
    )
    words = keys(request(asked(), answer(*many), results(*many)), ResponseFacts(tool_calls=long))
    assert len([one for one in words.split() if one[0] == "t"]) == MAX_CALLS
    assert len([one for one in words.split() if one[0] == "r"]) == MAX_CALLS
    assert len(words) < 8192


def facts_of(exchange: Exchange) -> tuple[RequestFacts, ResponseFacts]:
    dialect = find(exchange.method, exchange.path.partition("?")[0])
    assert dialect is not None
    facts = dialect.parse_request(exchange.body, cache=MessageCache())
    content_type = dict(exchange.response_headers).get(b"content-type", b"text/event-stream").decode()
    parser = dialect.response_parser(facts, exchange.status, content_type)
    for time_s, chunk in exchange.chunks:
        parser.feed(round(time_s * 1e9), chunk)
    return facts, parser.finish()


def test_no_text_and_no_id_of_real_traffic_is_in_them():
    for capture in load():
        for exchange in capture.exchanges:
            if not exchange.body or exchange.truth.trajectory is None:
                continue
            facts, response = facts_of(exchange)
            words = keys(facts, response)
            assert len(words) < 1024
            for call in (*response.tool_calls, *(call for message in facts.messages for call in message.tool_calls)):
                assert call.id is None or len(call.id) < 8 or call.id not in words
            for one in words.split():
                assert one[0] in "enbparowuqlfsSRtAVWzixkgyd"
                name = one.partition(":")[2]
                assert one[0] == "t" or name.isdecimal() or not name


def test_spans_of_calls_hold_them(tmp_path):
    some = [capture for capture in load() if capture.name.startswith("claude-code")][:2]
    play_fleet(interleaved(some, 1), tmp_path, proxies=1)
    written = [attributes(span) for span in spans(tmp_path / "proxy-0")]
    calls_written = [span for span in written if semconv.DIALECT in span]
    assert calls_written
    assert all(span[semconv.LINK_KEYS] for span in calls_written)
    assert not any(semconv.LINK_KEYS in span for span in written if semconv.DIALECT not in span)


def test_they_can_be_left_out(tmp_path):
    config = ProxyConfig(upstream="http://llm.internal:8000", store=str(tmp_path), salt="5a" * 32, link_keys=False)
    observer = Observer(config)
    told = captures.Stage(observer, 1).play(interleaved(list(load())[:1], 1), tmp_path)
    assert told.calls
    assert not any(semconv.LINK_KEYS in seen.attributes for seen in told.calls)


def test_the_salt_of_a_fleet_comes_from_a_file(tmp_path):
    path = tmp_path / "salt"
    path.write_text("5a" * 16 + "\n" + "5a" * 16 + "\n")
    config = ProxyConfig(upstream="http://llm.internal:8000", store=str(tmp_path / "store"), salt_file=str(path))
    assert with_salt(config).salt == "5a" * 32


@pytest.mark.parametrize("content", [b"secret words", b"5a5a", b"\xff\xfe", b""])
def test_what_is_no_salt_is_said_without_saying_it(tmp_path, content):
    path = tmp_path / "salt"
    path.write_bytes(content)
    config = ProxyConfig(upstream="http://llm.internal:8000", store=None, salt_file=str(path))
    with pytest.raises(UsageError, match="is no salt file") as told:
        with_salt(config)
    assert not content.strip() or content.decode("latin-1") not in str(told.value)


def test_a_salt_file_that_is_not_there(tmp_path):
    config = ProxyConfig(upstream="http://llm.internal:8000", store=None, salt_file=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="cannot read the salt file"):
        with_salt(config)
