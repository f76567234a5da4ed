"""Stories: calls written as one line each, so that a whole scenario and its expectation fit on one screen.

A message is a token: `u1` text of the user, `a1` text of the model, `ls:x` a tool call with id x, `=x` its result, `!x`
a result marked as an error, `s1` text of the harness with role system; `+` joins parts of one message. `ls:` is a call
without an id, `=` its result. An answer is a message of the model, or `error`, `cancelled`, `truncated`, or `...` while
the call stays in flight.
"""

from dataclasses import dataclass, field

import pytest

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Identity, Message, RequestFacts, ResponseFacts, ToolCall, ToolResult
from otel_agentperf_proxy.trajectory import Linker, Placement, Run, identity_key

SECOND = 10**9
_FAILED = {"error", "cancelled", "truncated", "partial"}


def message(token: str) -> Message:
    """A message of a story."""
    calls, results, texts = [], [], []
    for part in token.split("+"):
        name, colon, call_id = part.partition(":")
        if part[0] in "=!":
            results.append(ToolResult(part[1:] or None, part[0] == "!", 10))
        elif colon:
            calls.append(ToolCall(call_id.split("(")[0] or None, name, call_id.encode().partition(b"(")[2]))
        else:
            texts.append(part)
    role = "assistant" if calls or token[0] == "a" else {"s": "system"}.get(token[0], "tool" if results else "user")
    return Message(role, token.encode(), 100, tuple(calls), tuple(results), has_text=bool(texts))


def request(tokens: str, **facts: object) -> RequestFacts:
    """A request of a story."""
    messages = tuple(message(token) for token in tokens.split())
    return RequestFacts("openai.chat", "chat", "openai", messages=messages, **facts)  # type: ignore[arg-type]


def response(token: str) -> tuple[ResponseFacts | None, str]:
    """An answer of a story and its status."""
    if token in _FAILED:
        return None, token
    said = message(token)
    return ResponseFacts(tool_calls=said.tool_calls, message_digest=said.digest, terminal=True), "ok"


def identity(who: str) -> Identity | None:
    """`-` nobody, `S1` a session of that name, `L:X` launcher tag X, `S1/A` sub-agent A of session S1."""
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
        **facts: object,
    ) -> Placement:
        """The call's request comes."""
        self.count += 1
        self.now_ns += 9 * SECOND
        caller = identity(who)
        if caller is not None and told:
            caller = Identity(caller.source, caller.trajectory_id, tool_durations_s=told)
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
        )
        self.names.setdefault(placement.run.trajectory_id, f"T{len(self.names)}")
        self.closed += placement.closed_runs
        self.placements.append(placement)
        return placement

    def finish(self, placement: Placement, answer: str) -> None:
        """The call's answer has ended."""
        self.now_ns += SECOND
        self.closed += self.linker.finish(placement, *response(answer), self.now_ns)

    def call(self, who: str, tokens: str, answer: str, **options: object) -> Placement:
        """A whole call."""
        placement = self.place(who, tokens, **options)  # type: ignore[arg-type]
        if answer != "...":
            self.finish(placement, answer)
        return placement

    def told(self, placement: Placement) -> str:
        """Where a call went: `T0 run0 turn0 new`, with `retry1` for a second attempt."""
        turn = "aux" if placement.turn_index is None else f"turn{placement.turn_index}"
        retry = f" retry{placement.attempt_index}" if placement.attempt_index else ""
        name = self.names[placement.run.trajectory_id]
        return f"{name} run{placement.run.run_index} {turn}{retry} {placement.source}"

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


@pytest.fixture
def new_story() -> type[Story]:
    """For stories with a linker of their own."""
    return Story
