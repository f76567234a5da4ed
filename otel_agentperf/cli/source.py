"""Opens what the reading commands read."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from otel_agentperf.cli.common import console
from otel_agentperf.cli.options import Period
from otel_agentperf.cli.output import note

if TYPE_CHECKING:
    from otel_agentperf.policies import Tier
    from otel_agentperf_analyzers import Database

__all__ = ["opened", "tiers_of"]


@contextmanager
def opened(source: str | None, period: Period) -> Iterator["Database"]:
    """The source as a database; what could not be read of it is told at the end.

    Raises:
        SourceError: it cannot be read.
        UsageError: it is not a source, or the time bounds make no sense.
    """
    since, until = period.bounds()
    from otel_agentperf_analyzers import open_source

    with console.status("reading spans …") if console.is_terminal else nullcontext():
        database = open_source(source, since=since, until=until)
    with database:
        yield database
        if database.skipped.lines:
            note(f"skipped {database.skipped.lines:,} unreadable lines, the first is {database.skipped.examples[0]}")


def tiers_of(names: list[str] | None) -> "tuple[Tier, ...]":
    """The tiers of `--tier`; none means the presets that fit the models.

    Raises:
        UsageError: not a known tier.
    """
    from otel_agentperf import policies

    return tuple(dict.fromkeys(tier for name in names or () for tier in policies.select(name)))
