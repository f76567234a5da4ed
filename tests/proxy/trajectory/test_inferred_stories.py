"""Sub-agents, summaries and auxiliary calls of agents that do not say who they are. The language: conftest.py."""

import pytest

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Identity
from otel_agentperf_proxy.trajectory import Linker
from otel_agentperf_proxy.trajectory.state import NEAR_NS

from .test_trajectory_stories import STORIES as TOLD_STORIES

R1, R2, R3, R4 = "call_8f3a9c1d7e5b", "call_1b7d3e9f5a2c", "call_9e2f4a6c8b0d", "call_7c1d9e0f3b5a"
"""Ids that look random."""

STORIES = {
    "a sub-agent is the child of the call that asked with its text": f"""
        - | u1                         | task:{R1}(v1 | -> T0 run0 turn0 new
        - | v1                         | ls:{R2}      | -> T1<T0 run0 turn0 sub_agent
        - | v1 ls:{R2} ={R2}           | a9           | -> T1<T0 run0 turn1 tool_call_id
        - | u1 task:{R1}(v1 ={R1}(a9   | a1           | -> T0 run0 turn1 tool_call_id
    """,
    "its task may stand beside what the harness says to every agent": f"""
        - | u0+u1                      | task:{R1}(v1 | -> T0 run0 turn0 new
        - | u0+v1                      | a9           | -> T1<T0 run0 turn0 sub_agent
        - | u0 v1 s1                   | a9           | -> T2 run0 turn0 new
    """,
    "two sub-agents side by side, and one below another": f"""
        - | u1                 | task:{R1}(v1+task:{R2}(w1 | -> T0 run0 turn0 new
        - | w1                 | task:{R3}(z1 | -> T1<T0 run0 turn0 sub_agent
        - | v1                 | a1           | -> T2<T0 run0 turn0 sub_agent
        - | z1                 | a2           | -> T3<T1 run0 turn0 sub_agent
    """,
    "the same task twice": f"""
        - | u1                 | task:{R1}(v1+task:{R2}(v1 | -> T0 run0 turn0 new
        - | v1                 | a1           | -> T1<T0 run0 turn0 sub_agent
        - | v1                 | a2           | -> T2<T0 run0 turn0 sub_agent
        - | v1                 | a3           | -> T3 run0 turn0 new
    """,
    "two agents wait for the same task: nobody can tell": f"""
        - | u1                 | task:{R1}(v1 | -> T0 run0 turn0 new
        - | u2                 | task:{R2}(v1 | -> T1 run0 turn0 new
        - | v1                 | a1           | -> T2 run0 turn0 new
    """,
    "a sub-agent that works on by itself may begin after the call was answered": f"""
        - | u1                 | spawn:{R1}(v1 | -> T0 run0 turn0 new
        - | u1 spawn:{R1}(v1 ={R1} | ls:{R2}   | -> T0 run0 turn1 tool_call_id
        - | v1                 | a9            | -> T1<T0 run0 turn0 sub_agent
        - | u1 spawn:{R1}(v1 ={R1} ls:{R2} ={R2} u0+a9 | a1 | -> T0 run0 turn2 tool_call_id
    """,
    "but not when the agent is done with other calls": f"""
        - | u1                 | spawn:{R1}(v1 | -> T0 run0 turn0 new
        - | u1 spawn:{R1}(v1 ={R1} | ls:{R2}(f1 | -> T0 run0 turn1 tool_call_id
        - | u1 spawn:{R1}(v1 ={R1} ls:{R2}(f1 ={R2} | a1 | -> T0 run0 turn2 tool_call_id
        - | v1                 | a9            | -> T1 run0 turn0 new
    """,
    "a conversation that has begun is nobody's child": f"""
        - | u1                 | task:{R1}(v1 | -> T0 run0 turn0 new
        - | v1 a7 u8           | a9           | -> T1 run0 turn0 new
    """,
    "who names his session and no agent in it": f"""
        B:S1 | u1                       | task:{R1}(v1 | -> T0 run0 turn0 body
        B:S1 | v1                       | ls:{R2}      | -> T1<T0 run0 turn0 sub_agent
        B:S1 | v1 ls:{R2} ={R2}         | a9           | -> T1<T0 run0 turn1 tool_call_id
        B:S1 | u1 task:{R1}(v1 ={R1}(a9 | a1           | -> T0 run0 turn1 body
        B:S1 | v1 ls:{R2} ={R2} a9 v2   | a8           | -> T1<T0 run1 turn2 prefix
        B:S1 | u1 task:{R1}(v1 ={R1}(a9 a1 u2 | a2     | -> T0 run1 turn2 body
        B:S2 | v1                       | a1           | -> T2 run0 turn0 body
    """,
    "a session of its own whose parent is not told": f"""
        B:S1 | u1                       | task:{R1}(v1 | -> T0 run0 turn0 body
        B:S2 | v1                       | a9           | -> T1<T0 run0 turn0 body
    """,
    "a summary begins the next segment": f"""
        -   | u1                        | ls:{R1} | -> T0 run0 turn0 new
        -?? | u1 ls:{R1} ={R1} u9       | a5      | -> T0 run0 aux tool_call_id
        -   | u1 u0+a5                  | ls:{R2} | -> T0 run0 turn1 segment1 summary
        -   | u1 u0+a5 ls:{R2} ={R2}    | a6      | -> T0 run0 turn2 segment1 tool_call_id
        -   | u1 u0+a5 ls:{R2} ={R2} a6 u2 | a7   | -> T0 run1 turn3 segment1 prefix
    """,
    "a summary that the user asked for after the work": """
        -   | u1 u2 u3                  | a1 | -> T0 run0 turn0 new
        -?? | u1 u2 u3+u9               | a5 | -> T0 run0 aux prefix
        -   | u0+a5 u4                  | a2 | -> T0 run1 turn1 segment1 summary
    """,
    "a summary of nobody's conversation is nobody's segment": """
        -??  | u7                       | a5 | -> T0 run0 aux new
        -    | u0+a5                    | a2 | -> T1 run0 turn0 new
    """,
    "an answer in another agent's task is no summary": """
        -   | u1                        | a5 | -> T0 run0 turn0 new
        -   | u0+a5                     | a2 | -> T1 run0 turn0 new
    """,
    "two agents with the same summary: nobody can tell": f"""
        -   | u1                        | ls:{R1} | -> T0 run0 turn0 new
        -   | u2                        | ls:{R2} | -> T1 run0 turn0 new
        -?? | u1 ls:{R1} ={R1} u9       | a5      | -> T0 run0 aux tool_call_id
        -?? | u2 ls:{R2} ={R2} u9       | a5      | -> T1 run0 aux tool_call_id
        -   | u0+a5                     | a2      | -> T2 run0 turn0 new
    """,
    "a named session is compacted": """
        S1   | u1                       | ls:x | -> T0 run0 turn0 header
        S1?? | u1 ls:x =x u9            | a5   | -> T0 run0 aux header
        S1   | u1 u0+a5                 | ls:y | -> T0 run0 turn1 segment1 header
        S1   | u1 u0+a5 ls:y =y         | a6   | -> T0 run0 turn2 segment1 header
    """,
    "a summary that was not used": """
        S1   | u1                       | a1 | -> T0 run0 turn0 header
        S1?? | u1 a1 u9                 | a5 | -> T0 run0 aux header
        S1   | u1 a1 u2                 | a2 | -> T0 run1 turn1 header
    """,
    "a title that is asked for with the conversation": """
        -  | u1                         | a1 | -> T0 run0 turn0 new
        -? | u1 a1 u8                   | a5 | -> T0 run0 aux prefix
        -  | u1 a1 u2                   | a2 | -> T0 run1 turn1 prefix
    """,
    "a harness that leaves out answers without tool calls": f"""
        -  | u1                         | ls:{R1} | -> T0 run0 turn0 new
        -  | u1 ls:{R1} ={R1}           | a1 | -> T0 run0 turn1 tool_call_id
        -  | u1 ls:{R1} ={R1} u8        | a1 | -> T0 run1 turn2 prefix
        -  | u1 ls:{R1} ={R1} u8 u8     | a1 | -> T0 run2 turn3 prefix
    """,
    "but not when it is all that is known": """
        -  | u1                         | a1 | -> T0 run0 turn0 new
        -  | u1 u2                      | a2 | -> T1 run0 turn0 new
    """,
    "a fork": """
        -  | u1                         | a1 | -> T0 run0 turn0 new
        -  | u1 a1 u2                   | a2 | -> T0 run1 turn1 prefix
        -  | u1 a1 u3                   | a3 | -> T1 run0 turn0 new
        -  | u1 a1 u2 a2 u4             | a4 | -> T0 run2 turn2 prefix
        -  | u1 a1 u3 a3 u5             | a5 | -> T1 run1 turn1 prefix
    """,
    "a fork at a tool's result": f"""
        -  | u1                         | ls:{R1} | -> T0 run0 turn0 new
        -  | u1 ls:{R1} ={R1}           | ls:{R2} | -> T0 run0 turn1 tool_call_id
        -  | u1 ls:{R1} ={R1}           | ls:{R3} | -> T1 run0 turn0 new
        -  | u1 ls:{R1} ={R1} ls:{R3} ={R3} | a3  | -> T1 run0 turn1 tool_call_id
        -  | u1 ls:{R1} ={R1} ls:{R2} ={R2} | a2  | -> T0 run0 turn2 tool_call_id
    """,
    "a fork whose tool said something else, while the other branch is asked": f"""
        -  | u1                         | ls:{R1} | -> T0 run0 turn0 new
        -  | u1 ls:{R1} ={R1}           | ...     | -> T0 run0 turn1 tool_call_id
        -  | u1 ls:{R1} ={R1}(f1        | ls:{R3} | -> T1 run0 turn0 new
        -  | u1 ls:{R1} ={R1}(f1 ls:{R3} ={R3} | a3 | -> T1 run0 turn1 tool_call_id
    """,
    "another agent's retry while one waits for its tool": f"""
        -  | u1                         | ls:{R1} | -> T0 run0 turn0 new
        -  | u1                         | error   | -> T1 run0 turn0 new
        -  | u1                         | ls:{R2} | -> T1 run0 turn0 retry1 prefix
        -  | u1 ls:{R1} ={R1}           | a1      | -> T0 run0 turn1 tool_call_id
        -  | u1 ls:{R2} ={R2}           | a1      | -> T1 run0 turn1 tool_call_id
    """,
    "the same task twice in a session that names no agents": f"""
        B:S1 | u1                       | task:{R1}(v1+task:{R2}(v1 | -> T0 run0 turn0 body
        B:S1 | v1                       | ls:{R3}      | -> T1<T0 run0 turn0 sub_agent
        B:S1 | v1                       | ls:{R4}      | -> T2<T0 run0 turn0 sub_agent
        B:S1 | v1 ls:{R4} ={R4}         | a9           | -> T2<T0 run0 turn1 tool_call_id
        B:S1 | v1 ls:{R3} ={R3}         | a8           | -> T1<T0 run0 turn1 tool_call_id
        B:S1 | u1 task:{R1}(v1+task:{R2}(v1 ={R1}(a8+={R2}(a9 | a1 | -> T0 run0 turn1 body
    """,
    "a conversation that is summarised twice": """
        -   | u1                        | a1 | -> T0 run0 turn0 new
        -?? | u1 a1 u9                  | a5 | -> T0 run0 aux prefix
        -   | u0+a5 u2                  | a6 | -> T0 run1 turn1 segment1 summary
        -?? | u0+a5 u2 a6 u9            | a7 | -> T0 run1 aux segment1 prefix
        -   | u0+a7 u3                  | a8 | -> T0 run2 turn2 segment2 summary
    """,
    "a fork inside a named session is its next turn": """
        S1 | u1                         | a1 | -> T0 run0 turn0 header
        S1 | u1 a1 u2                   | a2 | -> T0 run1 turn1 header
        S1 | u1 a1 u3                   | a3 | -> T0 run2 turn2 header
    """,
}


@pytest.mark.parametrize("name", STORIES)
def test_each_call_finds_its_place(story, name):
    script = "\n".join(line.replace("| ->", "->") for line in STORIES[name].strip().splitlines())
    came, expected = story.play(script)
    assert came == expected


def test_a_task_of_one_letter_is_none_until_the_answer_comes_back(story):
    story.call("-", "u1", f"task:{R1}(x")
    child = story.call("-", "x", "a9")
    assert story.told(child) == "T1 run0 turn0 new"
    story.call("-", f"u1 task:{R1}(x ={R1}(a9", "a1")
    assert story.told(child) == "T1<T0 run0 turn0 new"
    assert child.run.confidence == 0.95
    assert child.run.parent_link[0] == story.placements[0].run.trace_id


def test_a_task_of_one_letter_stays_alone_when_another_answer_comes_back(story):
    story.call("-", "u1", f"task:{R1}(x")
    child = story.call("-", "x", "a9")
    story.call("-", f"u1 task:{R1}(x ={R1}(a8", "a1")
    assert story.told(child) == "T1 run0 turn0 new"


def test_the_answer_that_comes_back_confirms_the_parent(story):
    story.call("-", "u1", f"task:{R1}(v1")
    child = story.call("-", "v1", "a9")
    assert (child.source, child.confidence, child.run.confidence) == ("sub_agent", 0.8, 0.8)
    story.call("-", f"u1 task:{R1}(v1 ={R1}(a9", "a1")
    assert child.run.confidence == 0.95


def test_the_childs_run_links_the_tool_call_that_started_it(story):
    asked = story.call("-", "u1", f"ls:{R2}+task:{R1}(v1")
    child = story.call("-", "v1", "a9")
    answered = story.call("-", f"u1 ls:{R2}+task:{R1}(v1 ={R2} ={R1}(a9", "a1")
    task = next(tool for tool in answered.finished_tools if tool.name == "task")
    assert child.run.parent_link == (asked.run.trace_id, task.span_id)
    assert child.run.agent_depth == 1


def test_a_sub_agent_under_its_sessions_id_has_a_trace_of_its_own(story):
    root = story.call("B:S1", "u1", f"task:{R1}(v1", trace_id=b"a" * 16)
    child = story.call("B:S1", "v1", "a9", trace_id=b"a" * 16)
    assert root.run.trace_id == b"a" * 16 != child.run.trace_id
    assert child.run.identity_key is None
    assert child.run.trajectory_id.startswith("S1/")


def test_ids_of_sub_agents_in_a_session_follow_from_their_tasks(new_story):
    """Two proxies that see the same session give them the same names."""
    ids = []
    for _ in range(2):
        story = new_story()
        story.call("B:S1", "u1", f"task:{R1}(v1+task:{R2}(v1")
        ids.append([story.call("B:S1", "v1", "a9").run.trajectory_id for _ in range(2)])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


@pytest.mark.parametrize("first", ["title", "agent"])
def test_a_title_and_the_agent_with_the_same_words_belong_together(story, first):
    calls = {"title": ("-?", "u9 u1"), "agent": ("-", "u1")}
    placements = {}
    for name in sorted(calls, key=lambda name: name != first):
        story.now_ns -= 10_000_000_000 - 500_000_000
        placements[name] = story.call(*calls[name], "a1")
    assert placements["title"].run.trajectory_id == placements["agent"].run.trajectory_id
    assert placements["title"].turn_index is None
    assert placements["agent"].turn_index == 0
    assert placements["agent"].run.run_index == 0


def test_titles_of_agents_with_the_same_words_stay_alone(story):
    """Three titles, then two agents: which title is whose cannot be told, and a later title is none's either."""
    ids = []
    for who, tokens in (("-?", "u9 u1"), ("-?", "u9 u1"), ("-", "u1"), ("-?", "u9 u1"), ("-", "u1")):
        story.now_ns -= 9_900_000_000
        ids.append(story.call(who, tokens, "a1").run.trajectory_id)
    assert len(set(ids)) == 5


def test_a_title_of_another_client_or_long_ago_stays_alone(story):
    story.call("-?", "u9 u1", "a1")
    story.now_ns += NEAR_NS
    assert story.told(story.call("-", "u1", "a1")) == "T1 run0 turn0 new"
    story.now_ns -= 9_500_000_000
    assert story.told(story.call("-?", "u9 u1", "a1", client="other/2.0")) == "T2 run0 aux new"


def test_an_auxiliary_call_that_stays_alone_ends_its_run(story):
    placement = story.call("-?", "u9 u1", "a1")
    assert story.linker.expire(story.now_ns) == []
    assert story.linker.expire(story.now_ns + NEAR_NS + 1) == [placement.run]
    assert placement.run.status == "ok"
    assert story.linker.stats()["trajectories"] == 0


def test_what_quotes_an_answer_belongs_to_it(story):
    story.call("-", "u1", "a1")
    assert story.told(story.call("-?", "u9+a1", "a2")) == "T0 run0 aux text"


def test_a_request_names_the_response_that_it_continues(story):
    def attributes(response_id):
        return {"attributes": {semconv.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID: response_id}}

    def call(tokens, answer, response_id, previous=None):
        placement = story.place("-", tokens, dialect="openai.responses", **(attributes(previous) if previous else {}))
        story.finish(placement, answer, response_id=response_id)
        return story.told(placement)

    assert call("u1", "ls:call_0", "resp_1") == "T0 run0 turn0 new"
    assert call("u1", "ls:call_0", "resp_2") == "T1 run0 turn0 new"
    assert call("=call_0", "a1", "resp_3", previous="resp_2") == "T1 run0 turn1 response_id"
    assert call("=call_0", "a1", "resp_4", previous="resp_1") == "T0 run0 turn1 response_id"
    assert call("u2", "a2", "resp_5", previous="resp_3") == "T1 run1 turn2 response_id"
    assert call("u3", "a3", "resp_6", previous="resp_3") == "T2 run0 turn0 new"
    assert story.placements[-1].confidence == 0.5


def told(story, tokens, answer, **hints):
    """A call of session S1 with what its headers say beside that."""
    hinted = Identity(semconv.Source.HEADER, "S1", session_id="S1", **hints)
    placement = story.place("S1", tokens, caller=hinted)
    story.finish(placement, answer)
    return story.told(placement)


def test_the_client_names_the_users_request(story):
    """Text of the harness in between is no new request, and another request is one while the last has no answer yet."""
    assert told(story, "u1", "a1", run_key="P1") == "T0 run0 turn0 header"
    assert told(story, "u1 a1 u8", "ls:x", run_key="P1") == "T0 run0 turn1 header"
    assert told(story, "u1 a1 u8 ls:x =x+u2", "a2", run_key="P2") == "T0 run1 turn2 header"


def test_the_client_counts_its_compactions(story):
    assert told(story, "u1", "ls:x", segment=0) == "T0 run0 turn0 header"
    assert told(story, "u1 u5", "ls:y", segment=1) == "T0 run0 turn1 segment1 header"
    assert told(story, "u1 u6", "ls:z", segment=3) == "T0 run0 turn2 segment3 header"


def test_the_client_says_that_the_conversation_was_compacted(story):
    assert told(story, "u1 u2", "ls:x") == "T0 run0 turn0 header"
    assert told(story, "u1 u5", "ls:y", compacted=True) == "T0 run0 turn1 segment1 header"
    assert told(story, "u1 u5 ls:y =y", "a1", compacted=True) == "T0 run0 turn2 segment1 header"


def test_the_client_says_which_call_is_its_last(story):
    """Nobody runs the tools that its answer asks for: the run is over."""
    told(story, "u1", "ls:x")
    told(story, "u1 ls:x =x", "ls:y", final=True)
    (run,) = story.linker.expire(story.now_ns + 10 * 10**9)
    assert run.status == "ok"


@pytest.mark.parametrize("confused", [{"scope": "a"}, {"tenant": "b"}])
def test_no_edge_crosses_launcher_tags_or_tenants(story, confused):
    options = {"tags": {"agent.index": "1"}} if "scope" in confused else {"tenant": "3333cccc4444dddd"}
    story.call("-", "u1", f"task:{R1}(v1")
    assert story.told(story.call("-", "v1", "a9", **options)) == "T1 run0 turn0 new"


def test_what_was_forgotten_leaves_nothing_behind(new_story):
    """All tables are empty again, whatever was in them, and whatever had to go before its time."""
    for limit in (3, 1000):
        story = new_story(Linker(forget_after_s=1.0, idle_limit_s=1.0, max_trajectories=limit))
        for script in (*STORIES.values(), *TOLD_STORIES.values()):
            if "..." not in script:
                story.play("\n".join(line.replace("| ->", "->") for line in script.strip().splitlines()))
        assert story.linker.stats()["trajectories"] <= limit
        story.linker.expire(story.now_ns + 3600 * 10**9)
        stats = story.linker.stats()
        assert (stats["trajectories"], stats["index_entries"], stats["open_runs"], stats["inflight"]) == (0, 0, 0, 0)
