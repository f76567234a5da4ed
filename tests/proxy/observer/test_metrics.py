"""What the observer counts, call by call, by hand; and against what the analyzers find in the same spans."""

import json

import pytest

from otel_agentperf import instruments as metric
from otel_agentperf.policies import parse
from otel_agentperf_analyzers import open_source
from otel_agentperf_proxy.frames import Outcome

from .conftest import SECOND, delta, sse
from .test_call_spans import ANSWER, EVENT_STREAM, PLAIN, STREAMED, stream

TIER = "demo:standard"


def points(relay, instrument):
    """Values of attributes, without those that are not set, to what was counted: a number, or (count, sum)."""
    (family,) = [family for family in relay.observer.metrics() if family.name == instrument.name] or [None]
    if family is None:
        return {}
    return {
        tuple([value for value in point.values if value]): (sum(point.counts), round(point.value, 9))
        if point.counts
        else round(point.value, 9)
        for point in family.points
    }


def streamed_call(relay, **options):
    """A call with first output at 20 ms, last at 90 ms, end at 120 ms; 100 tokens in, 30 out."""
    told = relay.open(**options)
    told.body(STREAMED, 1)
    told.head(headers=EVENT_STREAM)
    stream(told)
    told.end(120)
    return told


def turns(relay, count, *, usage=None, session="S1"):
    """Turns of one agent, each answering the tool call of the one before; a turn lasts 0.1 s, the tool 10 s."""
    messages = [{"role": "user", "content": "Fix it."}]
    for turn in range(count):
        told = relay.open(headers={"x-session-id": session})
        told.body(json.dumps({"model": "m-8b", "messages": messages, "stream": True}).encode())
        told.head(headers=EVENT_STREAM)
        call = {"id": f"c{turn}", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
        last = turn == count - 1
        told.chunk(20, sse(delta({"content": "a"} if last else {"tool_calls": [{"index": 0, **call}]})))
        told.chunk(60, sse(delta({"content": "b"} if last else {}, "stop" if last else "tool_calls")))
        told.chunk(70, sse({"choices": [], "usage": usage or {"prompt_tokens": 50, "completion_tokens": 2}}, "[DONE]"))
        told.end(100)
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{turn}", "content": "done"})


def test_a_streamed_turn(new_relay):
    relay = new_relay(slo=(TIER,), capacity=4)
    streamed_call(relay, headers={"x-session-id": "S1"}, tags={"agent.name": "coder"})
    call = ("chat", "openai", "m-8b", "m-8b", "llm.internal", "8000")
    assert points(relay, metric.CLIENT_INFERENCE_DURATION) == {call: (1, 0.12)}
    assert points(relay, metric.CLIENT_OPERATION_DURATION) == {call: (1, 0.12)}
    assert points(relay, metric.CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK) == {call: (1, 0.01)}
    assert points(relay, metric.CLIENT_OPERATION_TIME_TO_FIRST_CHUNK) == {call: (1, 0.01)}
    assert points(relay, metric.CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK) == {call: (5, 0.07)}
    assert points(relay, metric.CLIENT_INFERENCE_INPUT_TOKENS) == {(*call, "unknown"): 100}
    assert points(relay, metric.CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS) == {call: (1, 30)}
    assert points(relay, metric.CLIENT_TOKEN_USAGE) == {(*call, "input"): (1, 100), (*call, "output"): (1, 30)}
    experience = ("openai", "m-8b", "coder")
    assert points(relay, metric.TTFT) == {experience: (1, 0.02)}
    assert points(relay, metric.OUTPUT_SPEED) == {experience: (1, round(29 / 0.07, 9))}
    assert points(relay, metric.CALLS) == {(*experience, "turn", "ok"): 1}
    assert points(relay, metric.AGENT_TIME) == {("m-8b", "ttft"): 0.02, ("m-8b", "decode"): 0.1}
    assert points(relay, metric.PROXY_OVERHEAD) == {(): (1, 0.00025)}
    assert points(relay, metric.ERRORS) == {}
    assert points(relay, metric.AGENTS_ACTIVE) == {("m-8b", "coder", "agent"): 1}
    assert points(relay, metric.CAPACITY) == {(): 4}
    assert points(relay, metric.CAPACITY_HEADROOM) == {(): 3}
    tier = parse(TIER).label
    assert points(relay, metric.SLO_CALLS) == {(tier, "m-8b", "true"): 1, (tier, "m-8b", "false"): 0}
    assert points(relay, metric.SLO_TARGET_CALLS)[(tier, "m-8b", "ttft", "true")] == 1
    assert points(relay, metric.SLO_OBJECTIVE)[(tier, "ttft")] == 0.95


def test_spans_say_which_tiers_their_turn_misses(new_relay):
    tiers = ("demo:standard", "aa-agentperf:gpt-oss-120b#4")
    relay = new_relay(slo=tiers)
    streamed_call(relay, headers={"x-session-id": "S1"})
    relay.open("GET", "/v1/models").end(30)
    call, other, _ = sorted(relay.spans(), key=lambda span: span["name"] != "chat m-8b")
    assert call["attributes"]["agentperf.slo.met"] is False
    assert call["attributes"]["agentperf.slo.missed"] == (parse(tiers[1]).label,)
    assert "agentperf.slo.met" not in other["attributes"]


@pytest.mark.parametrize(
    ("names", "there", "missing"),
    [
        ("new", metric.CLIENT_INFERENCE_DURATION, metric.CLIENT_TOKEN_USAGE),
        ("old", metric.CLIENT_TOKEN_USAGE, metric.CLIENT_INFERENCE_DURATION),
        ("new", metric.CLIENT_INFERENCE_INPUT_TOKENS, metric.CLIENT_OPERATION_TIME_TO_FIRST_CHUNK),
        ("old", metric.CLIENT_OPERATION_DURATION, metric.CLIENT_INFERENCE_OPERATION_INPUT_TOKENS),
    ],
)
def test_the_generation_of_names_is_selectable(new_relay, names, there, missing):
    relay = new_relay(metric_names=names)
    streamed_call(relay)
    assert points(relay, there)
    assert not points(relay, missing)
    assert points(relay, metric.TTFT)


def test_embeddings_keep_the_name_of_operations_in_the_new_generation(new_relay):
    relay = new_relay(metric_names="new")
    body = json.dumps({"model": "e", "input": "text"}).encode()
    answer = json.dumps({"object": "list", "data": [], "model": "e", "usage": {"prompt_tokens": 2}}).encode()
    relay.call(body, answer, path="/v1/embeddings")
    relay.call(PLAIN, ANSWER)
    assert [values[0] for values in points(relay, metric.CLIENT_OPERATION_DURATION)] == ["embeddings"]
    assert [values[0] for values in points(relay, metric.CLIENT_INFERENCE_DURATION)] == ["chat"]


def test_the_convention_opt_in_asks_for_the_new_generation(new_relay, monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,gen_ai_latest_experimental")
    relay = new_relay()
    streamed_call(relay)
    assert points(relay, metric.CLIENT_INFERENCE_DURATION)
    assert not points(relay, metric.CLIENT_TOKEN_USAGE)


def test_failed_calls_count_by_type_and_have_no_experience(relay):
    told = relay.open()
    told.body(PLAIN)
    told.head(status=429, headers={"content-type": "application/json"})
    told.chunk(20, json.dumps({"error": {"message": "slow down", "type": "rate_limit_error"}}))
    told.end(30)
    broken = relay.open()
    broken.body(STREAMED)
    broken.head(headers=EVENT_STREAM)
    stream(broken, until=4)
    broken.end(60, Outcome.UPSTREAM_FAILED, "upstream_reset")
    assert points(relay, metric.ERRORS) == {
        ("openai", "m-8b", "rate_limit_error"): 1,
        ("openai", "m-8b", "upstream_reset"): 1,
    }
    assert {values[-1]: number for values, number in points(relay, metric.CALLS).items()} == {
        "error": 1,
        "truncated": 1,
    }
    assert points(relay, metric.TTFT) == points(relay, metric.OUTPUT_SPEED) == {}
    assert points(relay, metric.AGENT_TIME) == {
        ("m-8b", "call"): 0.03,
        ("m-8b", "harness"): 10,
        ("m-8b", "ttft"): 0.02,
        ("m-8b", "decode"): 0.04,
    }


def test_time_between_turns_is_of_tools_then_of_a_human(relay):
    turns(relay, 3)
    assert points(relay, metric.AGENT_TIME) == {
        ("m-8b", "ttft"): 0.06,
        ("m-8b", "decode"): 0.24,
        ("m-8b", "tool"): 20,
    }
    assert points(relay, metric.EXECUTE_TOOL_DURATION) == {("bash",): (2, 20)}
    relay.now_ns += 3600 * SECOND
    relay.observer.tick(relay.now_ns)
    assert sum(points(relay, metric.AGENTS_ACTIVE).values()) == 0
    assert points(relay, metric.INVOKE_AGENT_DURATION) == {(): (1, 20.3)}
    assert points(relay, metric.INVOKE_AGENT_INFERENCE_CALLS) == {(): (1, 3)}
    assert points(relay, metric.INVOKE_AGENT_TOOL_CALLS) == {(): (1, 2)}
    turns(relay, 1)
    # At most the idle limit.
    assert points(relay, metric.AGENT_TIME)[("m-8b", "idle")] == 600


def test_a_second_run_of_the_conversation_begins_after_the_human(relay):
    turns(relay, 1)
    relay.observer.tick(relay.now_ns + 5 * SECOND)
    told = relay.open(headers={"x-session-id": "S1"})
    messages = [
        {"role": "user", "content": "Fix it."},
        {"role": "assistant", "content": "ab"},
        {"role": "user", "content": "More."},
    ]
    told.body(json.dumps({"model": "m-8b", "messages": messages}).encode())
    assert points(relay, metric.AGENT_TIME)[("m-8b", "idle")] == 10
    assert points(relay, metric.CALLS_INFLIGHT) == {("m-8b",): 1}


def test_sub_agents_are_told_apart(relay):
    for tags in (
        {"trajectory.id": "T", "agent.name": "lead"},
        {"trajectory.id": "U", "parent.id": "T", "agent.name": "hand"},
    ):
        told = relay.open(tags=tags)
        told.body(PLAIN)
    assert points(relay, metric.AGENTS_ACTIVE) == {("m-8b", "lead", "agent"): 1, ("m-8b", "hand", "sub_agent"): 1}
    assert points(relay, metric.CALLS_INFLIGHT) == {("m-8b",): 2}


def test_cached_tokens_by_depth(relay):
    turns(
        relay, 6, usage={"prompt_tokens": 100, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 80}}
    )
    assert points(relay, metric.PREFIX_CACHE_INPUT_TOKENS) == {
        ("m-8b", "0"): 100,
        ("m-8b", "1-4"): 400,
        ("m-8b", "5-19"): 100,
    }
    assert points(relay, metric.PREFIX_CACHE_CACHED_TOKENS)[("m-8b", "1-4")] == 320
    turns(relay, 1, session="S2")
    assert points(relay, metric.PREFIX_CACHE_INPUT_TOKENS)[("m-8b", "0")] == 100, "a server that does not tell"


def test_retries_are_counted(relay):
    for status in (500, 200):
        told = relay.open(headers={"x-session-id": "S1"})
        told.body(PLAIN)
        told.head(status=status, headers={"content-type": "application/json"})
        told.chunk(20, ANSWER if status == 200 else b"{}")
        told.end(30)
    assert points(relay, metric.RETRIES) == {("openai", "m-8b"): 1}


def test_names_that_clients_make_up_do_not_fill_the_metrics(relay):
    streamed_call(relay)
    limit = metric.LIMITS["gen_ai.request.model"]
    for number in range(limit + 10):
        told = relay.open()
        told.body(json.dumps({"model": f"made-up-{number}", "messages": []}).encode())
        told.head(status=404, headers={"content-type": "application/json"})
        told.end(30)
    models = {values[1] for values in points(relay, metric.ERRORS)}
    assert len(models) == limit // 2 - 1 + 1, "half of the room, less m-8b, and other"
    assert metric.OTHER in models
    assert sum(points(relay, metric.ERRORS).values()) == limit + 10
    overflows = points(relay, metric.METRICS_OVERFLOWS)[("gen_ai.request.model",)]
    assert overflows >= limit // 2 + 10
    # A model that answers has room still.
    told = relay.open()
    told.body(STREAMED.replace(b"m-8b", b"late"))
    told.head(headers=EVENT_STREAM)
    stream(told)
    told.end(120)
    assert ("openai", "late") in points(relay, metric.TTFT)


def test_exemplars_lead_to_spans_that_are_kept(new_relay):
    relay = new_relay()
    streamed_call(relay)
    (family,) = [family for family in relay.observer.metrics() if family.name == metric.TTFT.name]
    (exemplar,) = [one for one in family.points[0].exemplars if one is not None]
    (call,) = [span for span in relay.spans() if span["name"].startswith("chat")]
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex()) == (call["trace"], call["span"])
    assert exemplar.value == 0.02
    nowhere = new_relay(store=None)
    streamed_call(nowhere)
    (family,) = [family for family in nowhere.observer.metrics() if family.name == metric.TTFT.name]
    assert not any(family.points[0].exemplars)


@pytest.mark.parametrize(("told", "there"), [("always_on", True), ("always_off", False), ("trace_based", False)])
def test_the_standard_filter_of_exemplars(new_relay, monkeypatch, told, there):
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", told)
    relay = new_relay(store=None)
    streamed_call(relay)
    (family,) = [family for family in relay.observer.metrics() if family.name == metric.TTFT.name]
    assert any(family.points[0].exemplars) == there


@pytest.mark.parametrize("tier", ["demo:standard", "aa-agentperf:gpt-oss-120b#1", "aa-agentperf:gpt-oss-120b#4"])
def test_the_same_as_the_analyzers_find(new_relay, tmp_path, tier):
    """Calls of all sorts; the counts must be those of relations over the spans."""
    relay = new_relay(slo=(tier,), idle_limit_s=3600)
    for number in range(40):
        told = relay.open(headers={"x-session-id": f"S{number % 7}"})
        body = {"model": "m-8b", "messages": [{"role": "user", "content": f"Task {number}"}], "stream": number % 5 > 0}
        told.body(json.dumps(body).encode())
        if number % 11 == 3:
            told.head(status=500, headers={"content-type": "application/json"})
            told.end(40 + number)
            continue
        if number % 5 == 0:
            told.head(headers={"content-type": "application/json"})
            told.chunk(100 + number, ANSWER)
            told.end(200 + number)
            continue
        told.head(headers=EVENT_STREAM)
        first = 700 * (number % 4 + 1)
        for at in range(1 + number % 3):
            told.chunk(first + (5 + number) * at, sse(delta({"content": "word"})))
        usage = {"prompt_tokens": 10 * number, "completion_tokens": 1 + 5 * (number % 3)}
        told.chunk(
            first + 900, sse(delta({}, "stop"), *([{"choices": [], "usage": usage}] if number % 6 else []), "[DONE]")
        )
        told.end(first + 1000 + 17 * number)
    counted = {
        instrument.name: points(relay, instrument)
        for instrument in (
            metric.SLO_CALLS,
            metric.TTFT,
            metric.OUTPUT_SPEED,
            metric.CLIENT_INFERENCE_INPUT_TOKENS,
            metric.CALLS,
        )
    }
    relay.observer.close()
    with open_source(str(relay.store)) as database:
        (row,) = database.slo([parse(tier)]).to_pylist()
        found = database.query(
            """
            SELECT
                COUNT(ttft_s) FILTER (status NOT IN ('error', 'cancelled', 'truncated')) AS ttfts,
                SUM(ttft_s) FILTER (status NOT IN ('error', 'cancelled', 'truncated')) AS ttft_s,
                COUNT(output_speed_tps) FILTER (usage_source = 'server') AS speeds,
                SUM(input_tokens) FILTER (usage_source = 'server') AS input_tokens,
                COUNT(*) AS attempts
            FROM attempts
            """
        ).to_pylist()[0]
    met = {values[-1]: number for values, number in counted[metric.SLO_CALLS.name].items()}
    assert row["goodput"] == pytest.approx(met["true"] / (met["true"] + met["false"]))
    assert met["false"] > 0
    ((count, total),) = counted[metric.TTFT.name].values()
    assert (count, total) == (found["ttfts"], pytest.approx(found["ttft_s"]))
    ((speeds, _),) = counted[metric.OUTPUT_SPEED.name].values()
    assert speeds == found["speeds"]
    assert sum(counted[metric.CLIENT_INFERENCE_INPUT_TOKENS.name].values()) == found["input_tokens"]
    assert sum(counted[metric.CALLS.name].values()) == found["attempts"] == 40


def test_a_failure_to_count_costs_no_span(relay, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no more")

    monkeypatch.setattr(relay.observer._outlet.meter._recorder, "_turn", fail)
    monkeypatch.setattr(relay.observer._outlet.meter._recorder, "placed", fail)
    streamed_call(relay)
    assert relay.observer.stats()["errors"] == {"metrics: RuntimeError": 2}
    assert [span["name"] for span in relay.spans()] == ["chat m-8b", "invoke_agent"]
