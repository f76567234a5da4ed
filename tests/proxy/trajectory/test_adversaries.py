"""What is made to confuse: equal prompts at once, ids that repeat, thousands of agents, in any order.

Whatever the order, a trajectory holds calls of one agent only. That every call finds its trajectory is asked for where
something tells: ids that nobody else has, or answers that nobody else got.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy.trajectory import Linker

AGENTS = 10_000


@dataclass
class Agent:
    """One agent: what it says and gets, one step after the other."""

    prompt: str
    steps: list[str]
    """Answers, in the language of the stories."""
    retries: frozenset[int] = frozenset()
    """Steps whose first attempt breaks off."""
    history: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    """Trajectories that its calls were given to."""
    inflight: object = None
    tried: set[int] = field(default_factory=set)

    @property
    def is_done(self) -> bool:
        return not self.steps and self.inflight is None

    def act(self, story) -> None:
        """Send the next request, or get its answer."""
        if self.inflight is None:
            self.history = self.history or [self.prompt]
            self.inflight = story.place("-", " ".join(self.history))
            self.given.append(self.inflight.run.trajectory_id)
            return
        step = len(self.history)
        if step in self.retries and step not in self.tried:
            self.tried.add(step)
            story.finish(self.inflight, "truncated")
        else:
            answer = self.steps.pop(0)
            story.finish(self.inflight, answer)
            self.history.append(answer)
            ids = [part.partition(":")[2] for part in answer.split("+") if ":" in part]
            self.history.append("+".join(f"={call_id}" for call_id in ids) or f"u{step}")
        self.inflight = None


def mix(story, agents: list[Agent], chance: random.Random) -> None:
    """Let the agents act in any order."""
    live = list(agents)
    while live:
        at = chance.randrange(len(live))
        live[at].act(story)
        if live[at].is_done:
            live[at] = live[-1]
            live.pop()


def owners(agents: list[Agent]) -> dict[str, set[int]]:
    """Trajectory to the agents whose calls it holds."""
    found = defaultdict(set)
    for number, agent in enumerate(agents):
        for trajectory in agent.given:
            found[trajectory].add(number)
    return found


def call_id(chance: random.Random, kind: str) -> str:
    return f"call_{chance.getrandbits(96):024x}" if kind == "random" else "call_0"


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 6), ids=st.sampled_from(["random", "counted", "mixed"]))
def test_no_trajectory_holds_calls_of_two_agents(new_story, seed, count, ids):
    """Few prompts, few answers, ids that nobody else has or that all have; some attempts break off."""
    chance = random.Random(seed)
    agents = []
    for _ in range(count):
        kind = chance.choice(["random", "counted"]) if ids == "mixed" else ids
        steps = []
        for _ in range(chance.randint(1, 5)):
            tools = chance.randint(0, 2)
            calls = [
                f"{chance.choice(['ls', 'cat'])}:{call_id(chance, kind)}"
                for _ in range(min(tools, 1 + (kind == "random")))
            ]
            text = [chance.choice(["a1", "a2"])] if not calls or chance.random() < 0.5 else []
            steps.append("+".join(text + calls))
        retries = frozenset(step for step in range(3, 12) if kind == "random" and chance.random() < 0.2)
        agents.append(Agent(chance.choice(["u1", "u2"]), steps, retries))
    mix(new_story(), agents, chance)
    assert [sorted(numbers) for numbers in owners(agents).values() if len(numbers) > 1] == []


@pytest.mark.parametrize("prompts", [1, AGENTS])
def test_ten_thousand_agents_at_once(new_story, prompts):
    """All with equal words, or each with its own; a call asks for two tools, one attempt in ten breaks off."""
    chance = random.Random(1)
    agents = []
    for number in range(AGENTS):
        steps = [f"ls:{call_id(chance, 'random')}+cat:{call_id(chance, 'random')}" for _ in range(2)]
        retries = frozenset({3}) if number % 10 == 0 else frozenset()
        agents.append(Agent(f"u{number % prompts}", [*steps, "a1"], retries))
    story = new_story(Linker(max_trajectories=AGENTS))
    mix(story, agents, chance)
    assert all(len(set(agent.given)) == 1 for agent in agents)
    assert len(owners(agents)) == AGENTS
    stats = story.linker.stats()
    assert (stats["trajectories"], stats["evictions"], stats["inflight"]) == (AGENTS, 0, 0)


def test_a_resumed_session_after_a_day_is_found_among_thousands(new_story):
    story = new_story()
    for number in range(1000):
        story.call("-", f"u{number}", f"a{number}")
    story.linker.expire(story.now_ns)
    story.now_ns += 86_400 * 10**9
    story.linker.expire(story.now_ns)
    for number in chosen(1000):
        resumed = story.call("-", f"u{number} a{number} u9", "a9")
        assert resumed.run.trajectory_id == story.placements[number].run.trajectory_id
        assert resumed.run.run_index == 1


def chosen(count: int) -> list[int]:
    return random.Random(2).sample(range(count), 50)
