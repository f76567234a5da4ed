"""Runs the engine on the event loop's clock: one timer for the whole batch, however many requests it has."""

import asyncio
from collections.abc import Iterable
from time import monotonic_ns
from typing import Final

from otel_agentperf.simulate.engine import Engine, Generation

__all__ = ["Aborted", "Driver", "Ticket"]

TIMER_SLACK_NS: Final = 500_000
"""A step that ends this soon counts as ended: the loop's timers count whole milliseconds. Planned times stay exact, so
nothing adds up."""


class Aborted(Exception):
    """Nothing more will come for this request: the client has left, or the server ends."""


class Ticket:
    """A request at the engine, for the one task that waits for it."""

    __slots__ = ("_waiter", "aborted", "admitted", "generation", "made_tokens")

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.admitted = False
        self.made_tokens = 0
        self.aborted = False
        self._waiter: asyncio.Future[None] | None = None

    async def admission(self) -> None:
        """Wait until the request leaves the queue. Raises Aborted."""
        while not self.admitted:
            await self._change()

    async def tokens(self, count: int) -> int:
        """Wait until at least `count` tokens are made; returns how many are. Raises Aborted."""
        while self.made_tokens < count:
            await self._change()
        return self.made_tokens

    async def _change(self) -> None:
        if self.aborted:
            raise Aborted
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def wake(self) -> None:
        """Something has changed."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Driver:
    """The engine in real time; for one event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._tickets: dict[Generation, Ticket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns: int | None = None
        self.closed = False

    def submit(self, generation: Generation) -> Ticket:
        """Hand a request to the engine."""
        ticket = Ticket(generation)
        if self.closed:
            ticket.aborted = True
            return ticket
        self._tickets[generation] = ticket
        now_ns = monotonic_ns()
        self._advance(now_ns)
        self._admit(self.engine.submit(generation, now_ns))
        self._arm(now_ns)
        return ticket

    def abort(self, ticket: Ticket) -> None:
        """End a request at once; its slot and its memory are free then."""
        ticket.aborted = True
        ticket.wake()
        if self._tickets.pop(ticket.generation, None) is None:
            return
        now_ns = monotonic_ns()
        self._advance(now_ns)
        self._admit(self.engine.cancel(ticket.generation, now_ns))
        self._arm(now_ns)

    def close(self) -> None:
        """End all requests, and take no more."""
        self.closed = True
        for ticket in list(self._tickets.values()):
            self.abort(ticket)

    def _on_timer(self) -> None:
        self._timer = None
        now_ns = monotonic_ns()
        self._advance(now_ns + TIMER_SLACK_NS)
        self._arm(now_ns)

    def _advance(self, limit_ns: int) -> None:
        """Complete the steps that have ended."""
        engine, tickets = self.engine, self._tickets
        while engine.step_end_ns is not None and engine.step_end_ns <= limit_ns:
            step = engine.complete()
            for generation in step.advanced:
                ticket = tickets.get(generation)
                if ticket is not None:
                    ticket.made_tokens = generation.made_tokens
                    ticket.wake()
                    if generation.ended:
                        del tickets[generation]
            self._admit(step.admitted)

    def _admit(self, generations: Iterable[Generation]) -> None:
        for generation in generations:
            ticket = self._tickets[generation]
            ticket.admitted = True
            ticket.wake()

    def _arm(self, now_ns: int) -> None:
        """Set the timer to the end of the step under way."""
        end_ns = self.engine.step_end_ns
        if self._timer is not None:
            if end_ns == self._timer_ns:
                return
            self._timer.cancel()
            self._timer = None
        if end_ns is not None:
            delay_s = max(end_ns - now_ns, 0) / 1e9
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)
            self._timer_ns = end_ns
