"""What a replay is told to do."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
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
    """How long tools take: as recorded or drawn anew, scaled and then capped; or always the same."""

    sampled: bool = False
    """Drawn from the recorded delays of the same tool, instead of each as it was recorded."""
    scale: float = 1.0
    cap_s: float | None = None
    """A delay above is cut to this, and counted."""
    fixed_s: float | None = None
    """Replaces all others."""


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
    trajectories_per_agent: float = 0.0
    """The same, for each agent of the level."""
    window_limit_s: float | None = None
    """The steady window closes at the latest after this, whatever its trajectories; the level is then cut short."""
    warmup_s: float = 10.0
    """How long the level's agents all work before the steady window opens, from when the last of them began."""
    drain_limit_s: float = 60.0
    """How long requests may go on after the steady window; what is still in flight then is cut off and counted."""
    output: OutputPolicy = OutputPolicy.EXACT
    tool_delays: ToolDelays = field(default_factory=ToolDelays)
    cache_prefix: Placement = Placement.SYSTEM
    seed: int = 0
    generators: int = 1
    """Processes that share the agents of a level; with one, agents play in the caller's own."""
    max_lateness_s: float = 0.1
    """A level whose requests were sent later than this after they were due, at the 99th percentile of a generator, is
    not judged."""
    max_cpu_share: float = 0.9
    """A level for which a generator used more than this of a core is not judged."""
    benchmark_id: str = field(default_factory=new_benchmark_id)
    resumed: int = 0
    """How often the benchmark was taken up again; keeps the ids of a level that is played anew apart."""
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

    def trajectories_of(self, agents: int) -> int | None:
        """Trajectories that a level of so many agents has to complete; None when their number ends nothing."""
        return max(self.trajectories or 0, ceil(self.trajectories_per_agent * agents)) or None

    def check(self) -> None:
        """Raise UsageError for values that cannot work."""
        Origin.parse(self.endpoint)
        if not self.levels or min(self.levels) < 1:
            raise UsageError("a level needs at least one agent; write for example 1,4,8")
        if len(set(self.levels)) < len(self.levels):
            raise UsageError("a level is named twice; its results could not be told apart")
        if self.seconds is None and self.trajectories is None and not self.trajectories_per_agent:
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
            ("number of generators", self.generators, 1),
            ("trajectories", self.trajectories, 1),
            ("trajectories per agent", self.trajectories_per_agent, 0),
            ("window limit", self.window_limit_s, self.seconds or 0),
            ("largest lateness", self.max_lateness_s, 0),
            ("largest CPU share", self.max_cpu_share, 0),
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
