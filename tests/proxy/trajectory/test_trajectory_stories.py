"""Whole scenarios: which trajectory, run and turn each call belongs to, by which rule. The language: conftest.py."""

import pytest

R1, R2, R3 = "call_8f3a9c1d7e5b", "call_1b7d3e9f5a2c", "call_9e2f4a6c8b0d"
"""Ids that look random."""

STORIES = {
    "a session names itself": """
        S1 | u1             | ls:x | -> T0 run0 turn0 header
        S1 | u1 ls:x =x     | a1   | -> T0 run0 turn1 header
        S1 | u1 ls:x =x a1 u2 | a2 | -> T0 run1 turn2 header
        S2 | u1             | a1   | -> T1 run0 turn0 header
    """,
    "a launcher names the trajectory": """
        L:X | u1            | ls:x | -> T0 run0 turn0 launcher
        L:X | u1 ls:x =x    | a1   | -> T0 run0 turn1 launcher
    """,
    "sub-agents in between": """
        S1   | u1           | task:x | -> T0 run0 turn0 header
        S1/A | v1           | ls:y   | -> T1<T0 run0 turn0 header
        S1/A | v1 ls:y =y   | a9     | -> T1<T0 run0 turn1 header
        S1   | u1 task:x =x | a1     | -> T0 run0 turn1 header
    """,
    "tool-call ids tell equal prompts apart": f"""
        - | u1              | ls:{R1} | -> T0 run0 turn0 new
        - | u1              | ls:{R2} | -> T1 run0 turn0 new
        - | u1 ls:{R2} ={R2} | a1     | -> T1 run0 turn1 tool_call_id
        - | u1 ls:{R1} ={R1} | a1     | -> T0 run0 turn1 tool_call_id
    """,
    "a random id is enough when the history was cut": f"""
        - | u1              | ls:{R1} | -> T0 run0 turn0 new
        - | u9 ls:{R1} ={R1} | a1     | -> T0 run0 turn1 tool_call_id
    """,
    "a counted id is not enough when the history was cut": """
        - | u1              | ls:call_0 | -> T0 run0 turn0 new
        - | u9 ls:call_0 =call_0 | a1   | -> T1 run0 turn0 new
    """,
    "a counted id with the history": """
        - | u1              | ls:call_0 | -> T0 run0 turn0 new
        - | u2              | ls:call_0 | -> T1 run0 turn0 new
        - | u1 ls:call_0 =call_0 | ls:call_0 | -> T0 run0 turn1 tool_call_id
        - | u2 ls:call_0 =call_0 | ls:call_0 | -> T1 run0 turn1 tool_call_id
        - | u1 ls:call_0 =call_0 ls:call_0 !call_0 | a1 | -> T0 run0 turn2 tool_call_id
    """,
    "equal prompts, equal counted ids: nobody can tell": """
        - | u1              | ls:call_0 | -> T0 run0 turn0 new
        - | u1              | ls:call_0 | -> T1 run0 turn0 new
        - | u1 ls:call_0 =call_0 | a1   | -> T2 run0 turn0 new
    """,
    "equal prompts, equal counted ids, other answers": """
        - | u1              | a1+ls:call_0 | -> T0 run0 turn0 new
        - | u1              | a2+ls:call_0 | -> T1 run0 turn0 new
        - | u1 a2+ls:call_0 =call_0 | a3   | -> T1 run0 turn1 prefix
    """,
    "a conversation without tools": """
        - | u1              | a1 | -> T0 run0 turn0 new
        - | u1 a1 u2        | a2 | -> T0 run1 turn1 prefix
        - | u1 a1 u2 a2 u3  | a3 | -> T0 run2 turn2 prefix
    """,
    "equal prompts, other answers": """
        - | u1              | a1 | -> T0 run0 turn0 new
        - | u1              | a2 | -> T1 run0 turn0 new
        - | u1 a2 u2        | a3 | -> T1 run1 turn1 prefix
        - | u1 a1 u2        | a4 | -> T0 run1 turn1 prefix
    """,
    "two equal first requests that both succeed": """
        - | u1              | a1 | -> T0 run0 turn0 new
        - | u1              | a1 | -> T1 run0 turn0 new
        - | u1 a1 u2        | a2 | -> T2 run0 turn0 new
    """,
    "equal requests in flight at once": """
        - | u1              | ... | -> T0 run0 turn0 new
        - | u1              | ... | -> T1 run0 turn0 new
    """,
    "an answer that is not there yet has no continuation": """
        - | u1              | ... | -> T0 run0 turn0 new
        - | u1 a1 u2        | a2  | -> T1 run0 turn0 new
    """,
    "edited history": """
        - | u1              | a1 | -> T0 run0 turn0 new
        - | u1 a1 u2        | a2 | -> T0 run1 turn1 prefix
        - | u1 a1 u9        | a3 | -> T1 run0 turn0 new
    """,
    "a turn that was not seen": """
        - | u1              | a1 | -> T0 run0 turn0 new
        - | u1 a9 u2 a2 u3  | a3 | -> T1 run0 turn0 new
    """,
    "a replay with recorded history, no ids of its own": """
        - | u1              | a5      | -> T0 run0 turn0 new
        - | u1 ls:x =x      | ls:zz   | -> T0 run0 turn1 prefix_recorded
        - | u1 ls:x =x cat:y =y | a7  | -> T0 run0 turn2 prefix_recorded
    """,
    "two replays of one recording at once": """
        - | u1              | a5      | -> T0 run0 turn0 new
        - | u1              | a6      | -> T1 run0 turn0 new
        - | u1 ls:x =x      | a7      | -> T2 run0 turn0 new
    """,
    "a named replay goes on although the model ended": """
        L:X | u1              | a5      | -> T0 run0 turn0 launcher
        L:X | u1 ls:x =x      | a6      | -> T0 run0 turn1 launcher
        L:X | u1 ls:x =x ls:y =y s1 | a7 | -> T0 run0 turn2 launcher
        L:X | u1 ls:x =x ls:y =y s1 a8 u2 | a9 | -> T0 run1 turn3 launcher
    """,
    "a harness says its reminder anew at the end of each request": """
        L:X | u1 u7           | ls:q    | -> T0 run0 turn0 launcher
        L:X | u1 ls:x =x u7   | a5      | -> T0 run0 turn1 launcher
        L:X | u1 ls:x =x cat:y =y u7 | a6 | -> T0 run0 turn2 launcher
        L:X | u1 ls:x =x cat:y =y u7 a6 u2 u7 | a7 | -> T0 run1 turn3 launcher
    """,
    "retries": """
        S1 | u1             | error     | -> T0 run0 turn0 header
        S1 | u1             | truncated | -> T0 run0 turn0 retry1 header
        S1 | u1             | ls:x      | -> T0 run0 turn0 retry2 header
        S1 | u1 ls:x =x     | cancelled | -> T0 run0 turn1 header
        S1 | u1 ls:x =x     | a1        | -> T0 run0 turn1 retry1 header
    """,
    "retries without a name": f"""
        - | u1              | error     | -> T0 run0 turn0 new
        - | u1              | ls:{R1}   | -> T0 run0 turn0 retry1 prefix
        - | u1 ls:{R1} ={R1} | truncated | -> T0 run0 turn1 tool_call_id
        - | u1 ls:{R1} ={R1} | ls:{R2}  | -> T0 run0 turn1 retry1 prefix
        - | u1 ls:{R1} ={R1} ls:{R2} ={R2} | a1 | -> T0 run0 turn2 tool_call_id
    """,
    "two equal requests failed: nobody can tell which one is retried": """
        - | u1              | ... | -> T0 run0 turn0 new
        - | u1              | error | -> T1 run0 turn0 new
        - | u1              | error | -> T1 run0 turn0 retry1 prefix
    """,
    "the user types on after a failure": """
        S1 | u1             | error     | -> T0 run0 turn0 header
        S1 | u1 u2          | cancelled | -> T0 run1 turn1 header
        S1 | u1 u2 u3       | a1        | -> T0 run2 turn2 header
    """,
    "the user types on after a failure, without a name": """
        - | u1              | error     | -> T0 run0 turn0 new
        - | u1 u2           | a1        | -> T0 run1 turn1 prefix
    """,
    "no continuation of an answer that never came": """
        - | u1              | error     | -> T0 run0 turn0 new
        - | u1 a1 u2        | a2        | -> T1 run0 turn0 new
    """,
    "text of the user beside the results": """
        S1 | u1             | ls:x | -> T0 run0 turn0 header
        S1 | u1 ls:x =x+u2  | ls:y | -> T0 run0 turn1 header
        S1 | u1 ls:x =x+u2 ls:y =y u3 | a1 | -> T0 run0 turn2 header
    """,
    "the user interrupts a tool": """
        S1 | u1             | ls:x | -> T0 run0 turn0 header
        S1 | u1 ls:x u2     | a1   | -> T0 run0 turn1 header
        S1 | u1 ls:x u2 a1 u3 | a2 | -> T0 run1 turn2 header
    """,
}


@pytest.mark.parametrize("name", STORIES)
def test_each_call_finds_its_place(story, name):
    script = "\n".join(line.replace("| ->", "->") for line in STORIES[name].strip().splitlines())
    came, expected = story.play(script)
    assert came == expected


def test_another_agent_has_come_to_the_very_request_that_failed(story):
    """Both said and were told the same: nobody can tell whether one tries again or the other goes on."""
    story.call("-", "u1", "a1")
    other = story.place("-", "u1")
    assert story.told(story.call("-", "u1 a1 u2", "truncated")) == "T0 run1 turn1 prefix"
    story.finish(other, "a1")
    assert story.told(story.call("-", "u1 a1 u2", "a2")) == "T2 run0 turn0 new"


def test_two_tenants_never_share_a_trajectory(story):
    first = story.call("S1", "u1", "a1", tenant="1111aaaa2222bbbb")
    second = story.call("S1", "u1", "a1", tenant="3333cccc4444dddd")
    again = story.call("S1", "u1 a1 u2", "a2", tenant="3333cccc4444dddd")
    assert first.run.trajectory_id == "S1"
    assert second.run.trajectory_id == again.run.trajectory_id == "S1@3333cccc"
    assert second.run.run_id != first.run.run_id


@pytest.mark.parametrize("answer", ["ls:" + R1, "a1", "error"])
def test_no_rule_crosses_tenants(story, answer):
    follow = {"a1": "u1 a1 u2", "error": "u1"}.get(answer, f"u1 ls:{R1} ={R1}")
    story.call("-", "u1", answer, tenant="1111aaaa2222bbbb")
    other = story.call("-", follow, "a2", tenant="3333cccc4444dddd")
    assert story.told(other) == "T1 run0 turn0 new"


def test_launcher_tags_separate_agents_without_ids(story):
    """Recordings that ten agents of a benchmark play at once are told apart by any tag that names the agent."""
    agents = [{"benchmark.id": "b", "agent.index": str(index), "phase": "warmup"} for index in range(3)]
    for tags in agents:
        story.call("-", "u1", "a5", tags=tags)
    came = [story.told(story.call("-", "u1 ls:x =x", "a6", tags={**tags, "phase": "steady"})) for tags in agents]
    assert came == [f"T{index} run0 turn1 prefix_recorded" for index in range(3)]


def test_a_body_can_name_the_session(story):
    placements = [story.call("-", "u1", "a1", session_id="conv_1"), story.call("-", "u7", "a7", session_id="conv_1")]
    assert [story.told(one) for one in placements] == ["T0 run0 turn0 body", "T0 run1 turn1 body"]
    assert placements[0].run.session_id == placements[0].run.trajectory_id == "conv_1"


def test_confidence_falls_with_the_evidence(story):
    told = [
        story.call("S1", "u1", "a1"),
        story.call("-", "v1", f"ls:{R1}"),
        story.call("-", f"v1 ls:{R1} ={R1}", "a1"),
        story.call("-", f"v1 ls:{R1} ={R1} a1 v2", "a1"),
        story.call("-", f"v1 ls:{R1} ={R1} a1 v2 a9 v3", "a2"),
    ]
    assert [one.source for one in told] == ["header", "new", "tool_call_id", "prefix", "prefix_recorded"]
    assert [one.confidence for one in told] == [1.0, 1.0, 0.99, 0.95, 0.5]


def test_a_session_resumed_after_a_day_goes_on(story):
    story.call("-", "u1", "a1")
    story.closed += story.linker.expire(story.now_ns + 3600 * 10**9)
    story.now_ns += 86_400 * 10**9
    story.closed += story.linker.expire(story.now_ns)
    resumed = story.call("-", "u1 a1 u2", "a2")
    assert story.told(resumed) == "T0 run1 turn1 prefix"
    assert resumed.run.previous_run == (story.closed[0].trace_id, story.closed[0].root_span_id)


def test_the_last_call_of_a_launchers_trajectory_ends_its_run(story):
    placement = story.call("L:X", "u1", "ls:x", tags={"trajectory.final": "true"})
    story.closed += story.linker.expire(story.now_ns + 10 * 10**9)
    assert story.closed == [placement.run]
    assert placement.run.status == "ok"


def test_tools_of_a_recording_with_reminders_are_found(story):
    story.call("L:X", "u1 u7", "a5")
    second = story.call("L:X", "u1 ls:x =x u7", "a6")
    third = story.call("L:X", "u1 ls:x =x cat:y !y u7", "a6")
    rewritten = story.call("L:X", "u9 cat:z =z u7", "a6")
    told = [[(tool.name, tool.is_error) for tool in one.finished_tools] for one in (second, third, rewritten)]
    assert told == [[("ls", False)], [("cat", True)], []]
