"""Whose header says what: the explicit identities that agents, gateways and launchers send.

Rules are data, most specific first; each names the agent and the version it was read from. Names drift between
versions, so a header that is absent is nothing unusual. Only ids of a session or of an agent count: never ids of a
device, of an installation, of a request or of a connection.

Pure and quick (microseconds): the relay calls `identify` for every request before it forwards it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypedDict
from urllib.parse import unquote

import msgspec

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Headers, Identity

MAX_ID_BYTES: Final = 512
"""A longer value is no id: the header is passed over."""


@dataclass(frozen=True, slots=True)
class AgentRule:
    """How one client names its session and its agents. Header names in lower case, with `-`."""

    session: tuple[bytes, ...]
    """The session, first header present wins. Without one of them the rule does not apply."""
    agent_name: str | None = None
    product: bytes = b""
    """The rule only applies when User-Agent starts so: for header names that others use with another meaning."""
    agent: bytes | None = None
    """The agent within the session; equal to the session's id, or absent, on the root agent."""
    parent: bytes | None = None
    """The agent that started this one; when absent on a sub-agent, the session's root did."""
    agent_type: bytes | None = None
    """What kind of sub-agent it is."""
    durations: bytes | None = None
    """Durations of the tools whose results the request carries: `Bash=742;Read=9`, milliseconds."""
    request_class: bytes | None = None
    """The kind of request, one word."""
    metadata: bytes | None = None
    """JSON object whose `request_kind` is the kind of request, and whose `turn_id` names the user request."""
    turn_classes: frozenset[bytes] = frozenset()
    """Kinds that are turns; any other kind told is an auxiliary call."""
    summarizing: bytes | None = None
    """Present on a request for a summary of the conversation, whatever it says."""
    compacted: bytes | None = None
    """Present on a request whose conversation was compacted."""
    window: bytes | None = None
    """Ends with `:n`, n compactions so far."""
    prompt: bytes | None = None
    """The user request that the call works on."""
    final: bytes | None = None
    """`true` on the last call of the session."""


RULES: Final = (
    # Claude Code 2.1.197 (captured); the hints from 2.1.273 on, with CLAUDE_CODE_GATEWAY_HINT_HEADERS=1, and the
    # prompt's id from 2.1.283 on, from its documentation of the protocol for gateways.
    AgentRule(
        agent_name="claude-code",
        session=(b"x-claude-code-session-id",),
        agent=b"x-claude-code-agent-id",
        parent=b"x-claude-code-parent-agent-id",
        agent_type=b"x-claude-code-agent-type",
        durations=b"x-claude-code-prev-tool-durations",
        request_class=b"x-claude-code-request-class",
        turn_classes=frozenset((b"main", b"subagent", b"workflow")),
        summarizing=b"x-claude-code-compaction",
        compacted=b"x-claude-code-context-compacted",
        prompt=b"x-claude-code-prompt-id",
    ),
    # Codex 0.169.0 (captured). x-client-request-id repeats the thread's id: it names no request.
    AgentRule(
        agent_name="codex",
        product=b"codex",
        session=(b"session-id", b"thread-id"),
        agent=b"thread-id",
        parent=b"x-codex-parent-thread-id",
        agent_type=b"x-openai-subagent",
        metadata=b"x-codex-turn-metadata",
        turn_classes=frozenset((b"turn",)),
        window=b"x-codex-window-id",
    ),
    # opencode 1.18.33 (captured); each agent has a session of its own. x-opencode-session goes to some providers only.
    AgentRule(
        agent_name="opencode",
        product=b"opencode/",
        session=(b"x-session-affinity", b"x-session-id", b"x-opencode-session"),
        parent=b"x-parent-session-id",
    ),
    # AIPerf 0.13.0 (captured): a session's id, while elsewhere the same header often names a single request. It sends
    # the id as x-session-affinity too; Dynamo's headers are those that name a sub-agent's parent.
    AgentRule(
        agent_name="aiperf",
        product=b"aiperf/",
        session=(b"x-correlation-id", b"x-dynamo-session-id"),
        parent=b"x-dynamo-parent-session-id",
    ),
    # NVIDIA Dynamo's agent headers, from its documentation.
    AgentRule(session=(b"x-dynamo-session-id",), parent=b"x-dynamo-parent-session-id", final=b"x-dynamo-session-final"),
    # The same names as opencode and Codex without their User-Agent: forks and plugins. pi 0.73.1 sends `session_id`
    # (responses only).
    AgentRule(
        session=(b"x-session-affinity", b"x-session-id", b"x-opencode-session", b"session-id"),
        parent=b"x-parent-session-id",
    ),
    # LiteLLM and Helicone clients, from their documentation.
    AgentRule(session=(b"x-litellm-session-id", b"x-litellm-trace-id", b"helicone-session-id")),
)
"""The rules, in the order in which they are tried."""

_USER_AGENT: Final = b"user-agent"
_COMPACTION: Final = b"compaction"
"""The kind of a request for a summary, as Claude Code and Codex both call it."""


_HEADER_FIELDS: Final = (
    *("agent", "parent", "agent_type", "durations", "request_class", "metadata"),
    *("summarizing", "compacted", "window", "prompt", "final"),
)
"""Fields of a rule that name a header."""


def _known_names() -> dict[bytes, bytes]:
    """Each header that a rule reads, in its spellings with `-` and with `_`, to the name the rule uses."""
    names: dict[bytes, bytes] = {}
    for rule in RULES:
        told = (getattr(rule, name) for name in _HEADER_FIELDS)
        for name in (*rule.session, *(name for name in told if name is not None)):
            names[name] = name
            names[name.replace(b"-", b"_")] = name
    return names


_NAMES: Final = _known_names()


class _TurnMetadata(msgspec.Struct):
    request_kind: str | None = None
    turn_id: str | None = None


_decode_metadata: Final = msgspec.json.Decoder(_TurnMetadata).decode


def identify(headers: Headers, tags: Mapping[str, str]) -> Identity | None:
    """Tell who the client says it is; None when it says nothing.

    Args:
        headers: of the request, names in lower case.
        tags: launcher tags by the names of `semconv.LAUNCHER_TAGS`. They win over the agent's own headers; where the
            headers name a sub-agent of a session that a launcher started, the identity is the child
            `<launcher id>/<agent id>`.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        known = _NAMES.get(name)
        if known is not None and known not in found:
            found[known] = value
    launcher = tags.get("trajectory.id")
    own = _from_headers(found, headers) if found else None
    if launcher:
        return _under_launcher(launcher, tags, own)
    if own is None:
        return None
    return Identity(
        source=semconv.Source.HEADER,
        trajectory_id=own.agent_id,
        parent_id=own.parent_id or tags.get("parent.id"),
        agent_name=own.agent_name if own.is_subagent else tags.get("agent.name") or own.agent_name,
        session_id=own.session_id,
        session_only=own.session_only,
        **own.hints,
    )


def identity_key(identity: Identity, tenant: str) -> str:
    """Key of the identity's trajectory within its tenant: equal ids of two tenants are two trajectories."""
    return trajectory_key(tenant, identity.trajectory_id)


def trajectory_key(tenant: str, trajectory_id: str) -> str:
    """Key of the trajectory that a client of this tenant calls so."""
    return f"{tenant}/{trajectory_id}"


class _Hints(TypedDict):
    """What headers say of the call, beyond whose it is; see `Identity`."""

    auxiliary: bool
    tool_durations_s: tuple[tuple[str, float], ...]
    segment: int | None
    summarizes: bool
    compacted: bool
    run_key: str | None
    final: bool


@dataclass(slots=True)
class _Own:
    """What an agent's headers say."""

    session_id: str
    agent_id: str
    parent_id: str | None
    agent_name: str | None
    session_only: bool
    """No agent was named in the session, neither this one nor its parent."""
    hints: "_Hints"

    @property
    def is_subagent(self) -> bool:
        return self.parent_id is not None


def _from_headers(found: Mapping[bytes, bytes], headers: Headers) -> _Own | None:
    for rule in RULES:
        session = next((text for name in rule.session if (text := _id(found.get(name)))), None)
        if session is not None and (not rule.product or _user_agent(headers).startswith(rule.product)):
            return _apply(rule, session, found)
    return None


def _apply(rule: AgentRule, session: str, found: Mapping[bytes, bytes]) -> _Own:
    agent = _id(found.get(rule.agent)) if rule.agent else None
    parent = _id(found.get(rule.parent)) if rule.parent else None
    own = agent or session
    if parent is None and own != session:
        parent = session
    if parent == own:
        parent = None
    name = rule.agent_name
    kind = _id(found.get(rule.agent_type)) if rule.agent_type and parent else None
    if name and kind:
        name = f"{name}/{kind}"
    return _Own(session, own, parent, name, agent is None and parent is None, _hints(rule, found))


def _under_launcher(launcher: str, tags: Mapping[str, str], own: _Own | None) -> Identity:
    name = tags.get("agent.name")
    if own is None:
        return Identity(semconv.Source.LAUNCHER, launcher, tags.get("parent.id"), name)
    trajectory, parent = launcher, tags.get("parent.id")
    if own.is_subagent:
        trajectory = f"{launcher}/{own.agent_id}"
        # An agent that has a session of its own cannot tell whether its parent is the root that the launcher named;
        # the root is its ancestor in any case.
        nested = own.agent_id != own.session_id and own.parent_id != own.session_id
        parent = f"{launcher}/{own.parent_id}" if nested else launcher
        name = own.agent_name or name
    return Identity(
        source=semconv.Source.LAUNCHER,
        trajectory_id=trajectory,
        parent_id=parent,
        agent_name=name or own.agent_name,
        session_id=own.session_id,
        **own.hints,
    )


def _id(value: bytes | None) -> str | None:
    if value is None or len(value) > MAX_ID_BYTES:
        return None
    return value.decode("utf-8", "replace").strip() or None


def _user_agent(headers: Headers) -> bytes:
    return next((value for name, value in headers if name == _USER_AGENT), b"")


def _hints(rule: AgentRule, found: Mapping[bytes, bytes]) -> _Hints:
    kind = found.get(rule.request_class) if rule.request_class else None
    run_key = _id(found.get(rule.prompt)) if rule.prompt else None
    if rule.metadata and (metadata := found.get(rule.metadata)):
        try:
            told = _decode_metadata(metadata)
        except (msgspec.DecodeError, UnicodeError):
            pass
        else:
            kind = kind or (told.request_kind or "").encode()
            run_key = run_key or told.turn_id
    summarizes = rule.summarizing in found or kind == _COMPACTION
    return {
        "auxiliary": summarizes or (bool(kind) and kind not in rule.turn_classes),
        "tool_durations_s": _durations(rule, found),
        "segment": _window(found.get(rule.window)) if rule.window else None,
        "summarizes": summarizes,
        "compacted": rule.compacted in found,
        "run_key": run_key,
        "final": rule.final is not None and found.get(rule.final, b"").strip().lower() == b"true",
    }


def _window(value: bytes | None) -> int | None:
    number = (value or b"").rpartition(b":")[2]
    return int(number) if number.isdigit() and len(number) < 6 else None


def _durations(rule: AgentRule, found: Mapping[bytes, bytes]) -> tuple[tuple[str, float], ...]:
    text = found.get(rule.durations) if rule.durations else None
    if not text:
        return ()
    told = []
    for part in text.decode("utf-8", "replace").split(";"):
        name, _, millis = part.strip().rpartition("=")
        # Digits only: `float` would also take "nan" and "inf".
        if name and millis.isascii() and millis.isdigit() and len(millis) < 12:
            told.append((unquote(name), int(millis) / 1000))
    return tuple(told)
