"""Opens what the reading commands read."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING

from otel_agentperf.cli.common import console
from otel_agentperf.cli.options import Given, Period
from otel_agentperf.cli.output import note

if TYPE_CHECKING:
    from otel_agentperf.policies import Tier
    from otel_agentperf_analyzers import Database, Inputs

__all__ = ["opened", "tiers_of"]


@contextmanager
def opened(source: str | None, period: Period, given: Given = Given()) -> Iterator["Database"]:
    """The source as a database, with what was given beside it; what could not be read of it is told at the end.

    Raises:
        SourceError: it cannot be read.
        UsageError: it is not a source, the time bounds make no sense, or what was given beside it is wrong.
    """
    since, until = period.bounds()
    inputs = _inputs(given, since, until)
    from otel_agentperf_analyzers import open_source

    with console.status("reading spans …") if console.is_terminal else nullcontext():
        database = open_source(source, since=since, until=until, inputs=inputs)
    with database:
        told = database.notes
        for each in told:
            note(each)
        if period.explain:
            _tell_estimates(database)
        yield database
        for each in database.notes:
            if each not in told:
                note(each)
        if period.explain:
            _tell_costs(database)
        if database.skipped.lines:
            note(f"skipped {database.skipped.lines:,} unreadable lines, the first is {database.skipped.examples[0]}")


def _tell_estimates(database: "Database") -> None:
    estimates = database.estimates()
    if not estimates:
        note("--explain: nothing to say, the relations are computed here")
    for each in estimates:
        note(f"{each.table}: {each.rows:,} rows in {each.marks:,} marks of {each.parts:,} parts are of the period")


def _tell_costs(database: "Database") -> None:
    for each in database.costs:
        if each.what:
            memory = "" if each.memory_bytes is None else f", {each.memory_bytes / 2**20:,.1f} MiB of memory"
            read = f"{each.read_rows:,} rows, {each.read_bytes / 2**20:,.1f} MiB"
            note(f"{each.what}: read {read} in {each.elapsed_s:.3f} s{memory}")
    if costs := [each for each in database.costs if each.what]:
        rows, size = sum(each.read_rows for each in costs), sum(each.read_bytes for each in costs)
        elapsed_s = sum(each.elapsed_s for each in costs)
        note(f"all {len(costs)} queries: read {rows:,} rows, {size / 2**20:,.1f} MiB in {elapsed_s:.3f} s")


def _inputs(given: Given, since: datetime | None, until: datetime | None) -> "Inputs":
    from otel_agentperf import pricing
    from otel_agentperf_analyzers import Deployment, Inputs, load_outcomes, load_power

    if given.power is None:
        power: tuple[tuple[int, float], ...] = ()
    elif given.power.startswith(("http://", "https://")):
        from otel_agentperf_analyzers.prometheus import query_power

        power = query_power(given.power, since=since, until=until)
    else:
        power = load_power(given.power)
    return Inputs(
        prices=None if given.prices is None else pricing.load(given.prices),
        outcomes={} if given.outcomes is None else load_outcomes(given.outcomes),
        deployment=Deployment(
            accelerators=given.accelerators, power_w=given.power_watts, price_per_hour=given.price_per_hour
        ),
        power=power,
    )


def tiers_of(names: list[str] | None) -> "tuple[Tier, ...]":
    """The tiers of `--tier`; none means the presets that fit the models.

    Raises:
        UsageError: not a known tier.
    """
    from otel_agentperf import policies

    return tuple(dict.fromkeys(tier for name in names or () for tier in policies.select(name)))
