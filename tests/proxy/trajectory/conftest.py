"""Stories: calls written as one line each, so that a whole scenario and its expectation fit on one screen.

A message is a token: `u1` text of the user, `a1` text of the model, `ls:x` a tool call with id x, `=x` its result, `!x`
a result marked as an error, `s1` text of the harness with role system; `+` joins parts of one message. `ls:` is a call
without an id, `=` its result, `task:x(v1` a call with the text v1 as an argument, `=x(a1` a result that holds a text.
An answer is a message of the model, or `error`, `cancelled`, `truncated`, or `...` while the call stays in flight.
"""

from dataclasses import dataclass, field
from functools import cache

import pytest

from otel_agentperf import semconv
from otel_agentperf_proxy import marks
from otel_agentperf_proxy.facts import Identity, Message, RequestFacts, ResponseFacts, ToolCall, ToolResult
from otel_agentperf_proxy.trajectory import Linker, Placement, Run, identity_key

SECOND = 10**9
_FAILED = {"error", "cancelled", "truncated", "partial"}


def spoken(text: str) -> str:
    """What is said where a story says `u1`: some lines that nobody else says. `x` is said as it is."""
    return text if text == "x" else "".join(f"line {line} of what the story calls {text}\n" for line in range(4))


@cache
def message(token: str) -> Message:
    """A message of a story."""
    calls, results, texts, lines = [], [], [], b""
    for part in token.split("+"):
        name, colon, call_id = part.partition(":")
        if part[0] in "=!":
            call_id, _, text = part[1:].partition("(")
            results.append(ToolResult(call_id or None, part[0] == "!", 10))
            lines += marks.of_result(spoken(text)) if text else b""
        elif colon:
            call_id, _, argument = call_id.partition("(")
            strings = (spoken(argument),) if argument else ()
            calls.append(ToolCall(call_id or None, name, argument.encode(), strings))
        else:
            texts.append(part)
    role = "assistant" if calls or token[0] == "a" else {"s": "system"}.get(token[0], "tool" if results else "user")
    said = [spoken(text) for text in texts]
    return Message(
        role,
        token.encode(),
        100,
        tuple(calls),
        tuple(results),
        has_text=bool(texts),
        texts=b"" if role == "assistant" else marks.of_texts(said),
        lines=lines + marks.of_lines("\n".join(said)),
    )


def request(tokens: str, **facts: object) -> RequestFacts:
    """A request of a story."""
    messages = tuple(message(token) for token in tokens.split())
    dialect = str(facts.pop("dialect", "openai.chat"))
    return RequestFacts(dialect, "chat", "openai", messages=messages, **facts)  # type: ignore[arg-type]


def response(token: str) -> tuple[ResponseFacts | None, str]:
    """An answer of a story and its status."""
    if token in _FAILED:
        return None, token
    said = message(token)
    facts = ResponseFacts(tool_calls=said.tool_calls, message_digest=said.digest, lines=said.lines, terminal=True)
    return facts, "ok"


def identity(who: str) -> Identity | None:
    """`-` nobody, `S1` a session of that name, `L:X` launcher tag X, `S1/A` sub-agent A of session S1, `B:S1` a body
    that names session S1. Before a `?` an auxiliary call, before a `??` one that asks for a summary."""
    who = who.rstrip("?")
    if who.startswith("B:"):
        return Identity(semconv.Source.BODY, who[2:], session_id=who[2:], session_only=True)
    if who == "-":
        return None
    if who.startswith("L:"):
        return Identity(semconv.Source.LAUNCHER, who[2:])
    parent, _, agent = who.rpartition("/")
    return Identity(semconv.Source.HEADER, agent, parent or None, session_id=parent or agent)


@dataclass
class Story:
    """Plays calls against a linker, ten seconds apart and one second long."""

    linker: Linker = field(default_factory=Linker)
    now_ns: int = 1_000 * SECOND
    count: int = 0
    names: dict[str, str] = field(default_factory=dict)
    closed: list[Run] = field(default_factory=list)
    placements: list[Placement] = field(default_factory=list)

    def place(
        self,
        who: str,
        tokens: str,
        *,
        tenant: str = "1111aaaa2222bbbb",
        tags: dict[str, str] | None = None,
        trace_id: bytes | None = None,
        parent_span_id: bytes | None = None,
        told: tuple[tuple[str, float], ...] = (),
        client: str = "agent/1.0",
        caller: Identity | None = None,
        **facts: object,
    ) -> Placement:
        """The call's request comes."""
        self.count += 1
        self.now_ns += 9 * SECOND
        caller = caller or identity(who)
        if caller is not None and told:
            caller = Identity(caller.source, caller.trajectory_id, tool_durations_s=told)
        facts.setdefault("auxiliary", who.endswith("?"))
        facts.setdefault("summarizes", who.endswith("??"))
        placement = self.linker.place(
            tenant=tenant,
            identity=caller,
            request=request(tokens, **facts),
            tags=tags or {},
            t0_ns=self.now_ns,
            trace_id=trace_id or self.count.to_bytes(16, "big"),
            span_id=self.count.to_bytes(8, "big"),
            parent_span_id=parent_span_id,
            identity_key=identity_key(caller, tenant) if caller else None,
            client=client,
        )
        self.names.setdefault(placement.run.trajectory_id, f"T{len(self.names)}")
        self.closed += placement.closed_runs
        self.placements.append(placement)
        return placement

    def finish(self, placement: Placement, answer: str, *, response_id: str | None = None) -> None:
        """The call's answer has ended."""
        self.now_ns += SECOND
        facts, status = response(answer)
        if facts is not None:
            facts.id = response_id
        self.closed += self.linker.finish(placement, facts, status, self.now_ns)

    def call(self, who: str, tokens: str, answer: str, **options: object) -> Placement:
        """A whole call."""
        placement = self.place(who, tokens, **options)  # type: ignore[arg-type]
        if answer != "...":
            self.finish(placement, answer)
        return placement

    def told(self, placement: Placement) -> str:
        """Where a call went: `T0 run0 turn0 new`, with `retry1` for a second attempt, `segment1` after a compaction,
        `T1<T0` below a parent."""
        turn = "aux" if placement.turn_index is None else f"turn{placement.turn_index}"
        retry = f" retry{placement.attempt_index}" if placement.attempt_index else ""
        name = self.names[placement.run.trajectory_id]
        parent = placement.run.parent_trajectory_id
        under = f"<{self.names.get(parent, parent)}" if parent else ""
        segment = f" segment{placement.segment_index}" if placement.segment_index else ""
        return f"{name}{under} run{placement.run.run_index} {turn}{retry}{segment} {placement.source}"

    def play(self, script: str) -> tuple[list[str], list[str]]:
        """Play `who | request | answer -> expected` lines; returns what came and what was expected."""
        came, expected = [], []
        for line in script.strip().splitlines():
            call, _, expectation = line.partition("->")
            who, tokens, answer = (cell.strip() for cell in call.split("|"))
            came.append(self.told(self.call(who, tokens, answer)))
            expected.append(expectation.strip())
        return came, expected


@pytest.fixture
def story() -> Story:
    """A story with a fresh linker."""
    return Story()


@pytest.fixture(scope="session")
def new_story() -> type[Story]:
    """For stories with a linker of their own."""
    return Story
