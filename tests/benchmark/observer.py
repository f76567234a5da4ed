"""What a call costs the observer: CPU time of one process that is fed the frames of recorded-looking traffic.

    python tests/benchmark/observer.py [--calls N] [--chunks N] [--rounds N]

Agents with growing histories stream their turns; each round feeds all of it to a new observer that writes a store. The
figure is process time per call, the median of the rounds: wall time would tell of the machine's other work. Beside it
stands the time within the calls that count for the metrics, which rounds with and without them are too unlike to tell.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import End, Frame, Kind, Open, Outcome, ResponseHead, encode_record
from otel_agentperf_proxy.metrics.meter import Meter
from otel_agentperf_proxy.observer import Observer
from otel_agentperf_proxy.trajectory import identify, identity_key

TURNS = 20
MS = 1_000_000
TENANT = "1111aaaa2222bbbb"


def frames(calls: int, chunks: int) -> Iterator[Frame]:
    """Turns of agents that read a file at every step, 4 KB each."""
    now = 10**12
    for number in range(calls):
        agent, turn = divmod(number, TURNS)
        headers = [
            (b"x-session-id", b"agent-%d" % agent),
            (b"user-agent", b"bench/1"),
            (b"x-request-id", b"r%d" % number),
        ]
        tags = {"trajectory.id": f"t{agent}", "agent.name": f"agent-{agent % 4}"}
        identity = identify(headers, tags)
        opened = Open(
            method="POST",
            path="/v1/chat/completions",
            headers=headers,
            tags=tags,
            tenant=TENANT,
            server_address="llm.internal",
            server_port=8000,
            trace_id=(agent + 1).to_bytes(16, "big"),
            span_id=(number + 1).to_bytes(8, "big"),
            identity_key=identity_key(identity, TENANT) if identity else None,
        )
        body = json.dumps({"model": "m-8b", "stream": True, "messages": _history(agent, turn)}).encode()
        t0 = now
        yield Frame(Kind.OPEN, number, t0, encode_record(opened))
        yield Frame(Kind.REQUEST_BODY, number, t0 + MS, body)
        yield Frame(Kind.REQUEST_END, number, t0 + MS, b"")
        head = ResponseHead(200, [(b"content-type", b"text/event-stream")])
        yield Frame(Kind.RESPONSE_HEAD, number, t0 + 50 * MS, encode_record(head))
        sent = 0
        for at in range(chunks):
            data = _event({"content": f"word{at} "})
            sent += len(data)
            yield Frame(Kind.RESPONSE_BODY, number, t0 + (100 + 10 * at) * MS, data)
        data = _tail(turn, chunks, 900 * turn)
        sent += len(data)
        last = t0 + (110 + 10 * chunks) * MS
        yield Frame(Kind.RESPONSE_BODY, number, last, data)
        end = End(
            outcome=Outcome.COMPLETE,
            error_type=None,
            status=200,
            request_bytes=len(body),
            response_bytes=sent,
            sent_ns=t0 + 2 * MS,
            upload_ns=MS // 2,
            first_chunk_ns=t0 + 100 * MS,
            last_chunk_ns=last,
            overhead_ns=MS // 4,
            dropped_frames=0,
            unread_bytes=0,
        )
        yield Frame(Kind.END, number, last + MS, encode_record(end))
        now = last + 500 * MS


def _history(agent: int, turn: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a coding agent. " * 50},
        {"role": "user", "content": f"Fix issue {agent}."},
    ]
    for before in range(turn):
        call = {"id": f"c{agent}-{before}", "type": "function", "function": {"name": "read", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{agent}-{before}", "content": f"line {before}\n" * 400})
    return messages


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    chunk = {"id": "c", "model": "m-8b", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _tail(turn: int, chunks: int, cached: int) -> bytes:
    call = {"index": 0, "id": f"x{turn}", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    last = turn == TURNS - 1
    usage = {
        "prompt_tokens": 1000 * (turn + 1),
        "completion_tokens": chunks + 1,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    end = {"id": "c", "model": "m-8b", "choices": [], "usage": usage}
    return (
        (b"" if last else _event({"tool_calls": [call]}))
        + _event({}, "stop" if last else "tool_calls")
        + b"data: "
        + json.dumps(end).encode()
        + b"\n\ndata: [DONE]\n\n"
    )


def timed(spent_ns: list[int]) -> None:
    """Have the meter's work add its nanoseconds to a list."""

    def wrap(inner: Callable[..., Any]) -> Callable[..., Any]:
        def outer(*args: Any, **options: Any) -> Any:
            began = time.perf_counter_ns()
            try:
                return inner(*args, **options)
            finally:
                spent_ns.append(time.perf_counter_ns() - began)

        return outer

    for name in ("call", "placed", "tool", "run"):
        setattr(Meter, name, wrap(getattr(Meter, name)))


def measure(all_frames: list[Frame], calls: int, **options: Any) -> float:
    """CPU microseconds per call of an observer."""
    with tempfile.TemporaryDirectory() as directory:
        observer = Observer(ProxyConfig(upstream="http://llm.internal:8000", store=str(Path(directory)), **options))
        began = time.process_time()
        for frame in all_frames:
            observer.feed("0-1", frame)
        spent = time.process_time() - began
        observer.close()
    return spent / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    all_frames = list(frames(arguments.calls, arguments.chunks))
    spent_ns: list[int] = []
    timed(spent_ns)
    gc.collect()
    gc.freeze()
    # As the observer's process does.
    gc.set_threshold(50_000, 20, 20)
    figures, counting = [], []
    for _ in range(arguments.rounds):
        spent_ns.clear()
        figures.append(measure(all_frames, arguments.calls))
        # What another process got of the time in between stands out, and is left out.
        usual = sorted(spent_ns)[: round(len(spent_ns) * 0.98)]
        counting.append(sum(usual) / arguments.calls / 1e3)
    low, high = min(figures), max(figures)
    print(
        f"{statistics.median(figures):.0f} us of CPU per call [{low:.0f}, {high:.0f}], {arguments.chunks} chunks; "
        f"{statistics.median(counting):.0f} us of it for metrics [{min(counting):.0f}, {max(counting):.0f}]"
    )


if __name__ == "__main__":
    main()
