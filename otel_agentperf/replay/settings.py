"""What a replay is told to do."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from otel_agentperf.errors import UsageError
from otel_agentperf.http1 import Origin

__all__ = ["DialectName", "OutputPolicy", "Placement", "ReplaySettings", "ToolDelays", "new_benchmark_id"]

OUTPUT_GUARD_TOKENS: Final = 16_384
"""Limit of an answer whose length is the model's own choice, where the recording names none: ends loops."""

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RESERVED: Final = frozenset(
    ("model", "messages", "system", "tools", "stream", "stream_options", "max_tokens", "ignore_eos")
)


class DialectName(StrEnum):
    """Wire format of the requests."""

    CHAT = "chat"
    """OpenAI chat completions."""
    MESSAGES = "messages"
    """Anthropic messages."""


class OutputPolicy(StrEnum):
    """How long answers are."""

    EXACT = "exact"
    """As long as recorded: `max_tokens` is the recorded length and `ignore_eos` asks the server to use it up."""
    RECORDED = "recorded"
    """At most as long as recorded."""
    NATURAL = "natural"
    """As long as the model likes, up to the recorded request's own limit, else 16,384 tokens."""


class Placement(StrEnum):
    """Where the random prefix goes that keeps trajectories from sharing the server's prefix cache."""

    SYSTEM = "system"
    """Before the system prompt: nothing after it is shared between trajectories."""
    USER = "user"
    """Before the first user message: the system prompt stays shared."""
    NONE = "none"
    """No prefix: agents that play the same task share everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDelays:
    """How long tools take: as recorded, scaled and then capped; or always the same."""

    scale: float = 1.0
    cap_s: float | None = None
    """A delay above is cut to this, and counted."""
    fixed_s: float | None = None
    """Replaces the recorded delays."""

    def of(self, recorded_s: float) -> tuple[float, bool]:
        """The delay to keep, s, and whether it was cut."""
        if self.fixed_s is not None:
            return self.fixed_s, False
        delay = recorded_s * self.scale
        if self.cap_s is not None and delay > self.cap_s:
            return self.cap_s, True
        return delay, False


def new_benchmark_id() -> str:
    """An id that no other benchmark has, readable and in order of time."""
    return f"bench-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """One benchmark. A level lasts until each stop rule that is given (`seconds`, `trajectories`) has been met."""

    endpoint: str
    """Base URL, with or without `/v1` at its end."""
    model: str
    levels: tuple[int, ...] = (1,)
    """Concurrent agents of each level, in the order of play; no number twice."""
    dialect: DialectName = DialectName.CHAT
    seconds: float | None = 60.0
    """Least length of the steady window."""
    trajectories: int | None = None
    """Least number of trajectories completed inside the steady window."""
    warmup_s: float = 10.0
    """How long the level's agents all work before the steady window opens."""
    drain_limit_s: float = 60.0
    """How long requests may go on after the steady window; what is still in flight then is cut off and counted."""
    output: OutputPolicy = OutputPolicy.EXACT
    tool_delays: ToolDelays = field(default_factory=ToolDelays)
    cache_prefix: Placement = Placement.SYSTEM
    seed: int = 0
    benchmark_id: str = field(default_factory=new_benchmark_id)
    agent_name: str = "replay"
    limit_turns: int | None = None
    """Play at most this many turns of each task."""
    max_retries: int = 2
    """Further attempts of a turn after a failure that may pass."""
    request_timeout_s: float = 600.0
    """A response that is not complete after this is a failed attempt."""
    path: str | None = None
    """Path of the requests after the base URL; the dialect's own without."""
    api_key: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Further header fields; their values may be secrets and are never written anywhere."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Further members of each request body, such as `temperature` or `reasoning_effort`."""

    def check(self) -> None:
        """Raise UsageError for values that cannot work."""
        Origin.parse(self.endpoint)
        if not self.levels or min(self.levels) < 1:
            raise UsageError("a level needs at least one agent; write for example 1,4,8")
        if len(set(self.levels)) < len(self.levels):
            raise UsageError("a level is named twice; its results could not be told apart")
        if self.seconds is None and self.trajectories is None:
            raise UsageError("a level needs an end: a number of seconds, of trajectories, or both")
        if not _ID.fullmatch(self.benchmark_id):
            raise UsageError(f"not a benchmark id: {self.benchmark_id!r}; use letters, digits, '.', '_' and '-'")
        if not self.model:
            raise UsageError("the model has no name")
        delays = self.tool_delays
        for name, value, least in (
            ("seconds", self.seconds, 0),
            ("warmup", self.warmup_s, 0),
            ("drain limit", self.drain_limit_s, 0),
            ("tool delay scale", delays.scale, 0),
            ("tool delay cap", delays.cap_s, 0),
            ("fixed tool delay", delays.fixed_s, 0),
            ("retries", self.max_retries, 0),
            ("trajectories", self.trajectories, 1),
            ("turn limit", self.limit_turns, 1),
        ):
            if value is not None and not value >= least:
                raise UsageError(f"{name} must be at least {least}, not {value:g}")
        if not self.request_timeout_s > 0:
            raise UsageError(f"the request timeout must be positive, not {self.request_timeout_s:g}")
        if self.path is not None and not self.path.startswith("/"):
            raise UsageError(f"a path starts with a slash: {self.path!r}")
        reserved = _RESERVED & self.extra_body.keys()
        if reserved:
            raise UsageError(f"the replay sets {', '.join(sorted(reserved))} itself; leave it out of the extra body")
        for header, field_value in self.headers:
            text = header + field_value
            if not header or not text.isascii() or not text.isprintable():
                raise UsageError(f"not a header field: {header!r}")
