"""How well calls find their trajectories, and what that costs: `python tests/benchmark/trajectories.py`.

Links: the captures of `tests/data/captures`, mixed and interleaved in time several times over, as the agents sent them,
with their headers removed, and with nothing left that names anybody. Memory: bytes of a live trajectory, at 100,000 of
them. Time: reading and placing the requests of a growing trajectory, against one typed decode of the same bodies.
`--captures`, `--fleet`, `--memory`, `--time` do only that. `--fleet`: the captures through four proxies, call by call
in turn, put together by relation `stitch`; one proxy is replaced in the middle.
"""

import argparse
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time

import msgspec

from otel_agentperf_proxy.dialects import MessageCache, find
from otel_agentperf_proxy.facts import Identity, Message, RequestFacts, ResponseFacts, ToolCall
from otel_agentperf_proxy.trajectory import Linker

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import captures
from captures import AUXILIARY, EDGE, LINK, Capture, Replayed, Score
from fleet import stitched

from otel_agentperf_analyzers import open_source

SEEDS = range(5)

MODES: dict[str, Callable[[], list[Capture]]] = {
    "as sent": lambda: list(captures.load()),
    "headers removed": lambda: [capture.anonymous(body=False) for capture in captures.load()],
    "nothing names anybody": lambda: [capture.anonymous() for capture in captures.load()],
}

SECOND = 10**9


def through_one(made: Sequence[Capture], seed: int) -> Replayed:
    """What one proxy makes of the captures."""
    return captures.play(captures.interleaved(made, seed))


def through_four(made: Sequence[Capture], seed: int) -> Replayed:
    """What the relations make of the spans of four."""
    with tempfile.TemporaryDirectory() as stores:
        calls = captures.play_fleet(captures.interleaved(made, seed), Path(stores), replace_at=0.5)
        with open_source(f"{stores}/*/spans-*") as database:
            return stitched(database, calls)


def links(play: Callable[[Sequence[Capture], int], Replayed]) -> None:
    """Precision and recall by agent and rule."""
    for mode, made in MODES.items():
        by_agent: dict[tuple[str, str], Score] = {}
        by_rule: dict[tuple[str, str], Score] = {}
        for seed in SEEDS:
            scores = captures.score(play(made(), seed))
            for total, part in ((by_agent, scores.by_agent), (by_rule, scores.by_rule)):
                for key, score in part.items():
                    now = total.setdefault(key, Score())
                    now.true, now.right, now.wrong = (
                        now.true + score.true,
                        now.right + score.right,
                        now.wrong + score.wrong,
                    )
        print(f"\n{mode}, {len(SEEDS)} interleavings\n")
        _table("agent", by_agent)
        _table("rule", by_rule)


def _table(what: str, scores: dict[tuple[str, str], Score]) -> None:
    print(f"| {what} | kind | there | found | wrong | precision | recall |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for kind in (LINK, EDGE, AUXILIARY):
        rows = {name: score for (of, name), score in scores.items() if of == kind and _says(score)}
        for name in sorted(rows):
            _row(name, kind, rows[name])
        if what == "agent":
            kept = [score for name, score in rows.items() if not name.startswith("aider")]
            total = Score(*(sum(getattr(score, part) for score in kept) for part in ("true", "right", "wrong")))
            _row("all but aider", kind, total)
    print()


def _says(score: Score) -> bool:
    return bool(score.true or score.right or score.wrong)


def _row(name: str, kind: str, score: Score) -> None:
    precision, recall = (f"{value:.1%}" if value is not None else "–" for value in (score.precision, score.recall))
    print(f"| {name} | {kind} | {score.true} | {score.right} | {score.wrong} | {precision} | {recall} |")


def memory(count: int) -> None:
    """Resident bytes per live trajectory, each of which waits for a tool."""
    print(f"\n{count:,} live trajectories, 20 messages each, waiting for one tool call with two arguments\n")
    print("| identity | index entries each | bytes each |")
    print("|---|---:|---:|", flush=True)
    for identity in ("header", "inferred"):
        # A process of its own: what another one gave back is no measure.
        command = [sys.executable, __file__, "--memory-of", identity, "--trajectories", str(count)]
        subprocess.run(command, check=True)


def memory_of(identity: str, count: int) -> None:
    """The row of one kind of identity."""
    linker = Linker(max_trajectories=count)
    gc.collect()
    before = _resident_bytes()
    for number in range(count):
        _one(linker, number, explicit=identity == "header")
    gc.collect()
    grown = _resident_bytes() - before
    stats = linker.stats()
    assert stats["trajectories"] == stats["active_trajectories"] == count, stats
    print(f"| {identity} | {stats['index_entries'] / count:.1f} | {grown / count:,.0f} |", flush=True)


def _one(linker: Linker, number: int, *, explicit: bool) -> None:
    unique = number.to_bytes(8, "big")
    messages = tuple(
        Message("assistant" if at % 2 else "user", unique * 2 + bytes([at]), 500, texts=b"" if at % 2 else unique)
        for at in range(19)
    )
    session = f"{number:032x}"
    placement = linker.place(
        tenant="1111aaaa2222bbbb",
        identity=Identity("header", session, None, "agent", session) if explicit else None,
        request=RequestFacts("openai.chat", "chat", "openai", messages=messages),
        tags={},
        t0_ns=number,
        trace_id=unique * 2,
        span_id=unique,
        parent_span_id=None,
        identity_key=f"1111aaaa2222bbbb/{session}" if explicit else None,
        client="agent/1.0",
    )
    call = ToolCall(
        f"call_{number:024x}", "".join(("ba", "sh")), unique * 2, (f"ls -la {number}", f"Lists {number} files")
    )
    linker.finish(placement, ResponseFacts(tool_calls=(call,), message_digest=unique * 2, terminal=True), "ok", number)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, str] | None = None
    tool_use_id: str | None = None
    content: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]
    max_tokens: int
    stream: bool = False


def growing(final_bytes: int, turn_bytes: int) -> Iterator[bytes]:
    """Bodies of one trajectory in Anthropic's format; each turn adds a tool call and its result."""
    messages: list[dict[str, object]] = [{"role": "user", "content": "Find out why the build fails, and mend it."}]
    turn = size = 0
    while size < final_bytes:
        turn += 1
        line = f"{turn:05} src/module_{turn % 97}.py: the quick brown fox jumps over the lazy dog, and again\n"
        call = {"type": "tool_use", "id": f"toolu_{turn:024x}", "name": "Bash", "input": {"command": f"cat {turn}"}}
        text = line * max((turn_bytes - 400) // len(line), 1)
        messages += [
            {"role": "assistant", "content": [{"type": "text", "text": f"Let me look at part {turn}."}, call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": text}]},
        ]
        body = msgspec.json.encode({"model": "m", "max_tokens": 32_000, "stream": True, "messages": messages})
        size = len(body)
        yield body


def time() -> None:
    """CPU time of the proxy's reading and placing, by size of the body and of what a turn adds."""
    dialect = find("POST", "/v1/messages")
    assert dialect is not None
    typed = msgspec.json.Decoder(_Body)
    print("\nidentity of the latest request of a growing trajectory\n")
    print("| body | a turn adds | typed decode | read and placed | ratio |")
    print("|---:|---:|---:|---:|---:|")
    for final_bytes, turn_bytes in ((50_000, 2_500), (500_000, 2_500), (500_000, 10_000), (500_000, 50_000)):
        bodies = list(growing(final_bytes, turn_bytes))
        last = bodies[-1]
        counted = max(len(bodies) // 5, 1)
        decode_s, ours_s = [], []
        for _ in range(5):
            began = process_time()
            for body in bodies[-counted:]:
                typed.decode(body)
            decode_s.append((process_time() - began) / counted)
            linker, cache = Linker(), MessageCache()
            for number, body in enumerate(bodies):
                if number == len(bodies) - counted:
                    began = process_time()
                request = dialect.parse_request(body, cache=cache)
                unique = number.to_bytes(8, "big")
                placement = linker.place(
                    tenant="1111aaaa2222bbbb",
                    identity=None,
                    request=request,
                    tags={},
                    t0_ns=number * SECOND,
                    trace_id=unique * 2,
                    span_id=unique,
                    parent_span_id=None,
                    identity_key=None,
                )
                call = ToolCall(f"toolu_{number + 2:024x}", "Bash", b"", (f"cat {number + 2}",))
                response = ResponseFacts(tool_calls=(call,), terminal=True)
                linker.finish(placement, response, "ok", number * SECOND + 1)
            ours_s.append((process_time() - began) / counted)
            assert linker.stats()["trajectories"] == 1, "the requests do not belong together"
        decode, ours = min(decode_s), min(ours_s)
        print(
            f"| {len(last) / 1000:,.0f} KB | {turn_bytes / 1000:g} KB | {decode * 1e6:,.0f} µs | {ours * 1e6:,.0f} µs"
            f" | {ours / decode:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", action="store_true")
    parser.add_argument("--fleet", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--memory-of", choices=("header", "inferred"), help=argparse.SUPPRESS)
    parser.add_argument("--trajectories", type=int, default=100_000, help="live ones, for the memory")
    options = parser.parse_args()
    if options.memory_of:
        memory_of(options.memory_of, options.trajectories)
        return
    all_of_it = not (options.captures or options.fleet or options.memory or options.time)
    began = perf_counter()
    if options.captures or all_of_it:
        links(through_one)
    if options.fleet or all_of_it:
        print("\nthrough four proxies")
        links(through_four)
    if options.memory or all_of_it:
        memory(options.trajectories)
    if options.time or all_of_it:
        time()
    print(f"\n{perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
