"""Who plays what: tasks dealt to agents, prefixes and jitter, all from the seed. Pure.

Deal `number` of agent `i` among `n` is card `number * n + i` of an endless deck, which is the tasks shuffled anew in
each round. So tasks come up equally often whatever the agents' pace, and all levels are dealt from the same deck.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Generic, TypeVar

__all__ = ["Deck", "backoff_s", "prefix_text"]

T = TypeVar("T")


class Deck(Generic[T]):
    """An endless sequence of tasks, shuffled in rounds."""

    def __init__(self, tasks: Sequence[T], seed: int) -> None:
        self._tasks = tasks
        self._seed = seed
        # Agents are a few rounds apart at most.
        self._round = lru_cache(maxsize=16)(self._shuffled)

    def card(self, index: int) -> T:
        """The task at a position of the deck."""
        number, at = divmod(index, len(self._tasks))
        return self._round(number)[at]

    def _shuffled(self, number: int) -> list[T]:
        cards = list(self._tasks)
        Random(f"{self._seed}/deck/{number}").shuffle(cards)
        return cards


def prefix_text(seed: int, trajectory_id: str) -> str:
    """The random text before a trajectory's prompt. Trajectory ids are new in each benchmark, and so is the text."""
    digest = hashlib.sha256(f"{seed}/prefix/{trajectory_id}".encode()).hexdigest()[:32]
    return f"{digest} (random mark of this session, without meaning)\n\n"


def backoff_s(attempt: int, random: Random) -> float:
    """The wait before attempt `attempt` + 1: doubles from 0.5 s up to 8 s, less a random share of up to a quarter."""
    return float(min(0.5 * 2**attempt, 8.0) * (1 - 0.25 * random.random()))
