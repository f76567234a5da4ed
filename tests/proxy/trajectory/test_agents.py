"""What the headers of agents, gateways and launchers say. Header names come in lower case, as from any HTTP server."""

import pytest

from otel_agentperf_proxy.trajectory import identify

CLAUDE = {"user-agent": "claude-cli/2.1.290 (external, cli)", "x-claude-code-session-id": "S"}
CODEX = {"user-agent": "codex_cli_rs/0.170.0 (Debian)", "session-id": "S", "thread-id": "S"}
OPENCODE = {"user-agent": "opencode/1.19.0", "x-session-affinity": "ses_1", "x-session-id": "ses_1"}
AIPERF = {"user-agent": "aiperf/0.13.0", "x-correlation-id": "C", "x-session-affinity": "C"}


def told(headers, tags=None):
    return identify([(name.encode(), value.encode()) for name, value in headers.items()], tags or {})


def who(headers, tags=None):
    """Source, trajectory, parent, agent's name."""
    found = told(headers, tags)
    return found and (found.source, found.trajectory_id, found.parent_id, found.agent_name)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (CLAUDE, ("header", "S", None, "claude-code")),
        ({**CLAUDE, "x-claude-code-agent-id": "A"}, ("header", "A", "S", "claude-code")),
        (
            {**CLAUDE, "x-claude-code-agent-id": "A", "x-claude-code-parent-agent-id": "B"},
            ("header", "A", "B", "claude-code"),
        ),
        (
            {**CLAUDE, "x-claude-code-agent-id": "A", "x-claude-code-agent-type": "Explore"},
            ("header", "A", "S", "claude-code/Explore"),
        ),
        (CODEX, ("header", "S", None, "codex")),
        (
            {**CODEX, "thread-id": "T", "x-codex-parent-thread-id": "S", "x-openai-subagent": "collab_spawn"},
            ("header", "T", "S", "codex/collab_spawn"),
        ),
        ({**CODEX, "thread-id": "T"}, ("header", "T", "S", "codex")),
        (OPENCODE, ("header", "ses_1", None, "opencode")),
        ({**OPENCODE, "x-parent-session-id": "ses_0"}, ("header", "ses_1", "ses_0", "opencode")),
        ({**OPENCODE, "user-agent": "a-fork/0.1"}, ("header", "ses_1", None, None)),
        ({"x-opencode-session": "ses_1"}, ("header", "ses_1", None, None)),
        ({"session_id": "P"}, ("header", "P", None, None)),
        ({"x-dynamo-session-id": "D", "x-dynamo-parent-session-id": "E"}, ("header", "D", "E", None)),
        ({"x-litellm-session-id": "L", "x-litellm-trace-id": "M"}, ("header", "L", None, None)),
        ({"helicone-session-id": "H"}, ("header", "H", None, None)),
        (AIPERF, ("header", "C", None, "aiperf")),
        (
            {**AIPERF, "x-dynamo-session-id": "C", "x-dynamo-parent-session-id": "P"},
            ("header", "C", "P", "aiperf"),
        ),
        ({"user-agent": "curl/8", "x-correlation-id": "C"}, None),
        ({"x-request-id": "R", "x-client-request-id": "R", "x-device-id": "D"}, None),
        ({"x-claude-code-session-id": ""}, None),
        ({"x-claude-code-session-id": "x" * 513}, None),
        ({}, None),
    ],
)
def test_who_calls(headers, expected):
    assert who(headers) == expected


@pytest.mark.parametrize("headers", [CLAUDE, {**CODEX, "thread-id": "T", "x-codex-parent-thread-id": "S"}, OPENCODE])
def test_names_with_underscores_are_the_same_names(headers):
    spelt = {name if name == "user-agent" else name.replace("-", "_"): value for name, value in headers.items()}
    assert who(spelt) == who(headers)


def test_the_first_of_several_fields_counts_and_foreign_fields_do_not():
    fields = [(b"x-session-id", b"one"), (b"x-session-id", b"two"), (b"x-other-session-id", b"three")]
    assert identify(fields, {}).trajectory_id == "one"


@pytest.mark.parametrize(
    ("headers", "session_only"),
    [
        (CLAUDE, True),
        ({**CLAUDE, "x-claude-code-agent-id": "A"}, False),
        (CODEX, False),
        ({**OPENCODE, "x-parent-session-id": "ses_0"}, False),
        ({"x-litellm-session-id": "L"}, True),
    ],
)
def test_whether_an_agent_was_named_in_the_session(headers, session_only):
    assert told(headers).session_only is session_only


@pytest.mark.parametrize(
    ("hints", "auxiliary", "summarizes"),
    [
        ({}, False, False),
        ({"x-claude-code-request-class": "main"}, False, False),
        ({"x-claude-code-request-class": "subagent"}, False, False),
        ({"x-claude-code-request-class": "workflow"}, False, False),
        ({"x-claude-code-request-class": "auxiliary"}, True, False),
        ({"x-claude-code-request-class": "compaction"}, True, True),
        ({"x-claude-code-compaction": "auto"}, True, True),
        ({"x-claude-code-request-class": "a-class-of-a-later-version"}, True, False),
    ],
)
def test_claude_codes_hints_tell_the_kind_of_call(hints, auxiliary, summarizes):
    found = told({**CLAUDE, **hints})
    assert (found.auxiliary, found.summarizes) == (auxiliary, summarizes)


@pytest.mark.parametrize(
    ("metadata", "auxiliary", "summarizes", "run_key"),
    [
        ('{"turn_id":"T1","request_kind":"turn"}', False, False, "T1"),
        ('{"turn_id":"T1","request_kind":"compaction"}', True, True, "T1"),
        ('{"turn_id":"T1"}', False, False, "T1"),
        ('{"request_kind":7}', False, False, None),
        ("{", False, False, None),
        ("[]", False, False, None),
    ],
)
def test_codex_metadata_tells_the_kind_of_call_and_the_users_request(metadata, auxiliary, summarizes, run_key):
    found = told({**CODEX, "x-codex-turn-metadata": metadata})
    assert (found.auxiliary, found.summarizes, found.run_key) == (auxiliary, summarizes, run_key)


@pytest.mark.parametrize(
    ("window", "segment"), [("S:0", 0), ("S:12", 12), ("S", None), ("S:", None), ("S:x", None), ("S:999999999", None)]
)
def test_codex_counts_its_compactions(window, segment):
    assert told({**CODEX, "x-codex-window-id": window}).segment == segment


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ("Bash=742;Read=9", (("Bash", 0.742), ("Read", 0.009))),
        ("mcp__a%3Db=5; Read=4;Read=3", (("mcp__a=b", 0.005), ("Read", 0.004), ("Read", 0.003))),
        ("Bash=nan;Read=-1;=5;Glob;Grep=7", (("Grep", 0.007),)),
        ("", ()),
    ],
)
def test_claude_code_tells_how_long_its_tools_took(durations, expected):
    assert told({**CLAUDE, "x-claude-code-prev-tool-durations": durations}).tool_durations_s == expected


def test_claude_code_names_the_prompt_and_says_that_the_context_was_compacted():
    found = told({**CLAUDE, "x-claude-code-prompt-id": "P", "x-claude-code-context-compacted": "1"})
    assert (found.run_key, found.compacted) == ("P", True)


@pytest.mark.parametrize(("value", "final"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_dynamo_says_which_call_is_the_last(value, final):
    assert told({"x-dynamo-session-id": "D", "x-dynamo-session-final": value}).final is final


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ("launcher", "X", "Y", "mine")),
        (CLAUDE, ("launcher", "X", "Y", "mine")),
        ({**CLAUDE, "x-claude-code-agent-id": "A"}, ("launcher", "X/A", "X", "claude-code")),
        (
            {**CLAUDE, "x-claude-code-agent-id": "A", "x-claude-code-parent-agent-id": "B"},
            ("launcher", "X/A", "X/B", "claude-code"),
        ),
        ({**OPENCODE, "x-parent-session-id": "ses_0"}, ("launcher", "X/ses_1", "X", "opencode")),
    ],
)
def test_a_launcher_wins_and_sub_agents_stand_below_its_name(headers, expected):
    assert who(headers, {"trajectory.id": "X", "parent.id": "Y", "agent.name": "mine"}) == expected
