"""Traces of agent runs: roots, tools, retries, sub-agents, and how they hang together."""

import json
from typing import Any

from otel_agentperf_proxy.frames import Open, Outcome

from .conftest import SECOND, TENANT, span_id, trace_id, typed

S1 = {"x-session-id": "S1"}


def request(*messages: Any) -> bytes:
    return json.dumps({"model": "m", "messages": list(messages), "tools": [{"type": "function"}]}).encode()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def asks(name: str, arguments: str = "{}", call_id: str = "call_Zx81mQpf03", **more: Any) -> dict[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call], **more}


def result(call_id: str = "call_Zx81mQpf03", text: str = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def answer(message: dict[str, Any]) -> bytes:
    finish = "tool_calls" if "tool_calls" in message else "stop"
    return json.dumps({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()


SAYS = {"role": "assistant", "content": "All done."}


def by_name(spans: list[dict[str, Any]]) -> list[str]:
    return [span["name"] for span in spans]


def test_a_run_with_a_tool(relay):
    relay.call(request(user("look")), answer(asks("bash")), headers=S1)
    relay.call(request(user("look"), asks("bash"), result()), answer(SAYS), headers=S1)
    spans = relay.spans()
    assert by_name(spans) == ["chat m", "execute_tool bash", "chat m", "invoke_agent"]
    first, tool, second, run = spans
    assert {span["trace"] for span in spans} == {f"{0xA1:032x}"}
    assert {first["parent"], tool["parent"], second["parent"]} == {run["span"]}
    assert run["parent"] is None
    assert (run["start_ms"], run["end_ms"]) == (first["start_ms"], second["end_ms"])
    assert (tool["start_ms"], tool["end_ms"]) == (first["end_ms"], second["start_ms"])
    assert tool["kind"] == run["kind"] == "INTERNAL"
    common = {
        "agentperf.trajectory.id": "S1",
        "agentperf.run.id": first["attributes"]["agentperf.run.id"],
        "agentperf.run.index": 0,
        "agentperf.agent.depth": 0,
    }
    assert typed(tool["attributes"]) == typed(
        {
            **common,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "bash",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": "call_Zx81mQpf03",
            "agentperf.tool.turn_id": first["attributes"]["agentperf.turn.id"],
            "agentperf.turn.index": 0,
            "agentperf.tool.duration_source": "gap",
        }
    )
    assert typed(run["attributes"]) == typed(
        {
            **common,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": "S1",
            "agentperf.trajectory.source": "header",
            "agentperf.trajectory.confidence": 1.0,
            "agentperf.status": "ok",
        }
    )
    assert [span["attributes"]["agentperf.turn.index"] for span in (first, second)] == [0, 1]
    assert second["attributes"]["agentperf.prefix.shared_bytes"] == len(json.dumps(user("look")))


def test_a_tool_that_failed_and_came_again(relay):
    path = "/v1/messages"
    headers = {"x-claude-code-session-id": "S1", "x-claude-code-prev-tool-durations": "Bash=2000"}
    use = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"c": 1}}]}
    failed = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}]}
    again = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_2", "name": "Bash", "input": {"c": 1}}]}
    worked = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "ok"}]}

    def says(message: dict[str, Any]) -> bytes:
        return json.dumps({**message, "id": "m", "stop_reason": "tool_use"}).encode()

    relay.call(request(user("x")), says(use), path=path, headers=headers)
    relay.call(request(user("x"), use, failed), says(again), path=path, headers=headers)
    relay.call(request(user("x"), use, failed, again, worked), says({"content": []}), path=path, headers=headers)
    first, second = [span for span in relay.spans() if span["name"] == "execute_tool Bash"]
    assert first["status"] == "ERROR"
    assert first["attributes"]["agentperf.tool.error"] is True
    assert first["attributes"]["error.type"] == "tool_error"
    assert first["attributes"]["agentperf.tool.duration_source"] == "client"
    assert first["end_ms"] - first["start_ms"] == 2000
    assert second["status"] == "UNSET"
    assert second["attributes"]["agentperf.tool.repeated"] is True
    assert "agentperf.tool.error" not in second["attributes"]


def test_a_retry_links_to_the_first_attempt(relay):
    told = relay.open(headers=S1)
    told.body(request(user("x")))
    told.end(30, Outcome.UPSTREAM_FAILED, "upstream_reset", status=502)
    relay.call(request(user("x")), answer(SAYS), headers=S1)
    first, second, run = relay.spans()
    assert [span["attributes"]["agentperf.attempt.index"] for span in (first, second)] == [0, 1]
    assert first["attributes"]["agentperf.turn.id"] == second["attributes"]["agentperf.turn.id"]
    assert second["links"] == [(first["trace"], first["span"])]
    assert run["attributes"]["agentperf.status"] == "ok"


def test_the_next_run_has_a_trace_of_its_own_and_links_to_the_last(relay):
    relay.call(request(user("x")), answer(SAYS), headers=S1)
    relay.call(request(user("x"), SAYS, user("y")), answer(SAYS), headers=S1)
    one, first, two, second = relay.spans()
    assert by_name([one, first, two, second]) == ["chat m", "invoke_agent", "chat m", "invoke_agent"]
    assert [first["attributes"]["agentperf.run.index"], second["attributes"]["agentperf.run.index"]] == [0, 1]
    assert first["trace"] != second["trace"] == two["trace"]
    assert second["links"] == [(first["trace"], first["span"])]
    # The relay had forwarded the trace of the first run, for nobody had told it that this one is over.
    assert two["links"] == [(first["trace"], two["span"])]


def test_a_sub_agent_links_to_the_tool_that_started_it(relay):
    relay.call(request(user("x")), answer(asks("task")), headers=S1)
    child = {"x-session-id": "S2", "x-parent-session-id": "S1"}
    relay.call(request(user("sub")), answer(SAYS), headers=child)
    relay.call(request(user("x"), asks("task"), result()), answer(SAYS), headers=S1)
    spans = relay.spans()
    (tool,) = [span for span in spans if span["name"] == "execute_tool task"]
    (run,) = [
        span
        for span in spans
        if span["name"] == "invoke_agent" and span["attributes"]["agentperf.trajectory.id"] == "S2"
    ]
    assert run["links"] == [(tool["trace"], tool["span"])]
    assert run["attributes"]["agentperf.trajectory.parent_id"] == "S1"
    assert run["attributes"]["agentperf.agent.depth"] == 1
    assert run["trace"] != tool["trace"]


def test_the_clients_context_wins(relay):
    client = {"trace_id": trace_id(0xC0), "parent_span_id": span_id(0xC1), "tracestate": "vendor=1"}
    relay.call(request(user("x")), answer(SAYS), **client)
    call, run = relay.spans()
    assert call["trace"] == run["trace"] == f"{0xC0:032x}"
    assert call["parent"] == run["parent"] == f"{0xC1:016x}"
    assert call["links"] == []


def test_a_client_with_a_trace_for_each_call(relay):
    for number, messages in enumerate(((user("x"),), (user("x"), asks("bash"), result()))):
        client = {"trace_id": trace_id(0xC0 + number), "parent_span_id": span_id(0xD0 + number)}
        relay.call(request(*messages), answer(asks("bash") if number == 0 else SAYS), headers=S1, **client)
    first, tool, second, run = relay.spans()
    assert first["trace"] == tool["trace"] == run["trace"] != second["trace"]
    assert second["parent"] == f"{0xD1:016x}"
    assert second["links"] == [(run["trace"], run["span"])]


def test_without_identity_the_call_joins_its_run_and_links_what_was_forwarded(relay):
    relay.call(request(user("x")), answer(asks("bash")))
    relay.call(request(user("x"), asks("bash"), result()), answer(SAYS))
    first, _, second, run = relay.spans()
    assert second["trace"] == first["trace"] == run["trace"] == f"{0xA1:032x}"
    assert second["span"] == f"{0xB2:016x}"
    assert second["links"] == [(f"{0xA2:032x}", second["span"])]
    assert second["attributes"]["agentperf.trajectory.source"] == "tool_call_id"
    assert "gen_ai.conversation.id" not in second["attributes"]


def test_relays_learn_the_traces_of_open_runs(relay):
    key = f"{TENANT}/S1"
    relay.call(request(user("x")), answer(asks("bash")), headers=S1)
    assert relay.traces == {key: trace_id(0xA1)}
    assert [record.trace_id for record in relay.observer.run_traces()] == [trace_id(0xA1)]
    relay.call(request(user("x"), asks("bash"), result()), answer(SAYS), headers=S1)
    relay.observer.tick(relay.now_ns + 5 * SECOND)
    assert relay.traces == {}
    assert relay.observer.run_traces() == []


def test_an_idle_run_is_abandoned_at_its_last_activity(new_relay):
    relay = new_relay(idle_limit_s=60.0)
    relay.call(request(user("x")), answer(asks("bash")), headers=S1)
    relay.observer.tick(relay.now_ns + 61 * SECOND)
    run = relay.span("invoke_agent")
    assert run["attributes"]["agentperf.status"] == "abandoned"
    assert run["end_ms"] - run["start_ms"] == 30
    assert run["status"] == "UNSET"


def test_an_auxiliary_call_is_no_turn(relay):
    relay.call(b'{"input": []}', b'{"input_tokens": 3}', path="/v1/messages/count_tokens", headers=S1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.turn.kind"] == "auxiliary"
    assert attributes["agentperf.usage.source"] == "none"
    assert not {"agentperf.turn.index", "agentperf.prefix.shared_bytes"} & attributes.keys()


def test_the_mark_of_the_last_call_is_the_calls_alone(relay):
    tags = {"trajectory.id": "T", "agent.name": "replay"}
    relay.call(request(user("x")), answer(asks("bash")), tags=tags)
    relay.call(request(user("x"), asks("bash"), result()), answer(SAYS), tags={**tags, "trajectory.final": "true"})
    first, tool, last, run = relay.spans()
    assert last["attributes"]["agentperf.trajectory.final"] is True
    assert not [span for span in (first, tool, run) if "agentperf.trajectory.final" in span["attributes"]]
    assert run["name"] == "invoke_agent replay"


def test_calls_of_two_relays_find_each_other(new_relay):
    """The end of a call and the request that follows it come over two connections, in any order."""
    relay = new_relay()
    other = type(relay)(relay.observer, relay.store, worker="1-1", count=50)
    other.open("GET", "/health").end(1, status=200)

    told = relay.open()
    told.body(request(user("x")))
    told.head(headers={"content-type": "application/json"})
    told.chunk(20, answer(asks("bash")))

    follow = other.open()
    follow.t0_ns = told.t0_ns + 40_000_000
    follow.body(request(user("x"), asks("bash"), result()))
    assert relay.observer.holds
    told.end(30)
    relay.observer.tick(follow.t0_ns + 50_000_000)
    assert not relay.observer.holds
    follow.end(60, status=200)
    spans = [span for span in relay.spans() if span["name"] == "chat m"]
    assert [span["attributes"]["agentperf.turn.index"] for span in spans] == [0, 1]
    assert len({span["attributes"]["agentperf.trajectory.id"] for span in spans}) == 1


def test_what_ends_while_it_waits_for_its_place_ends_once(new_relay):
    relay = new_relay()
    other = type(relay)(relay.observer, relay.store, worker="1-1", count=50)
    other.open("GET", "/health").end(1, status=200)
    relay.call(request(user("x")), answer(SAYS))
    assert relay.observer.holds
    relay.observer.tick(relay.now_ns + SECOND)
    assert by_name(relay.spans()) == ["GET", "chat m", "invoke_agent"]


def test_records_carry_what_the_relay_chose(relay):
    told = relay.open(headers=S1)
    assert isinstance(told.record, Open)
    assert told.record.identity_key == f"{TENANT}/S1"
