"""The truth log agrees with the replies and with itself."""

import asyncio

from otel_agentperf.simulate import Truth, TruthLog

HELLO = [{"role": "user", "content": "Why does the build fail on my machine and nowhere else? " * 20}]


async def test_a_line_says_what_the_reply_says(endpoint):
    e = await endpoint(reasoning_rate=1.0, decode_ms=2.0)
    body = {"model": "m", "messages": HELLO, "max_tokens": 30, "ignore_eos": True}
    reply = (await e.client.post("/v1/chat/completions", json=body, headers={"x-request-id": "one"})).json()
    line = e.truth_of("one")
    usage = reply["usage"]
    assert line["response_id"] == reply["id"]
    assert line["input_tokens"] == usage["prompt_tokens"]
    assert line["cached_tokens"] == 0
    assert line["output_tokens"] == 30
    assert line["reasoning_tokens"] == usage["completion_tokens_details"]["reasoning_tokens"] > 0
    assert (line["status"], line["http_status"], line["finish_reason"]) == ("ok", 200, "length")
    assert (line["dialect"], line["model"], line["stream"]) == ("openai.chat", "m", False)
    assert line["first_token_ns"] is line["last_token_ns"] is None
    # The model's own times: the prompt's tokens at the configured rate, 29 steps after the first token.
    assert line["queue_s"] == 0
    assert line["prefill_s"] == usage["prompt_tokens"] / 1e6
    assert line["decode_s"] == 29 * 0.002
    assert line["received_ns"] <= line["body_ns"] < line["done_ns"]


async def test_a_streams_times_are_in_order_and_no_earlier_than_the_model_says(endpoint):
    e = await endpoint(prefill_tokens_per_s=10_000, decode_ms=3.0)
    await asyncio.gather(*[e.chat(messages=HELLO, max_tokens=20, ignore_eos=True, stream=True) for _ in range(8)])
    lines = e.truth()
    assert len({line["request_id"] for line in lines}) == 8
    for line in lines:
        times = [line[name] for name in ("received_ns", "body_ns", "first_token_ns", "last_token_ns", "done_ns")]
        assert times == sorted(times)
        planned_ns = (line["queue_s"] + line["prefill_s"]) * 1e9
        # Timers count whole milliseconds, so a step may be taken as ended half of one early.
        assert line["first_token_ns"] - line["body_ns"] >= planned_ns - 600_000
    assert sum(line["cached_tokens"] > 0 for line in lines) < 8


async def test_the_queue_is_in_the_log(endpoint):
    e = await endpoint(max_batch=1, decode_ms=50.0)
    await asyncio.gather(*[e.chat(messages=HELLO, max_tokens=10, ignore_eos=True) for _ in range(2)])
    first, second = sorted(e.truth(), key=lambda line: line["queue_s"])
    assert first["queue_s"] == 0
    assert 0 < second["queue_s"] <= first["prefill_s"] + first["decode_s"]


def test_a_log_that_cannot_be_written_is_counted_and_reported_once(caplog):
    with open("/dev/full", "wb", buffering=0) as file:
        log = TruthLog(file)
        for _ in range(3):
            log.write(Truth(request_id="x", dialect="openai.chat", received_ns=1))
    assert log.failed == 3
    (record,) = caplog.records
    assert record.getMessage() == "cannot write the truth log: No space left on device"
