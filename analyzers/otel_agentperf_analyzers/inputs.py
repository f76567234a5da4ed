"""What the spans cannot tell and a user can: prices, outcomes, the deployment's size, price and power.

Each becomes a table that the relations read; without it the figures that need it are NULL.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from otel_agentperf.errors import UsageError
from otel_agentperf.pricing import PER_TOKENS, Price, Prices

__all__ = ["OUTCOMES", "Deployment", "Inputs", "PowerSample", "load_outcomes", "load_power"]

OUTCOMES: Final = ("success", "failure", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What served the calls, where the spans do not say."""

    accelerators: int | None = None
    power_w: float | None = None
    """Mean power of all of it."""
    price_per_hour: float | None = None
    """Of one accelerator; calls without a price for their tokens share the cost of the time they were open."""

    def __post_init__(self) -> None:
        if self.accelerators is not None and self.accelerators < 1:
            raise UsageError(f"accelerators must be at least 1, got {self.accelerators}")
        for name, value in (("power", self.power_w), ("price per hour", self.price_per_hour)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"the {name} must be more than 0, got {value:g}")
        if self.price_per_hour is not None and self.accelerators is None:
            raise UsageError("a price per accelerator-hour needs the number of accelerators too")


PowerSample = tuple[int, float]
"""Nanoseconds since 1970, and the watts of the whole deployment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that can be given beside the spans."""

    prices: Prices | None = None
    outcomes: Mapping[str, str] = field(default_factory=dict)
    """Trajectory id to one of `OUTCOMES`; wins over what spans tell."""
    deployment: Deployment = Deployment()
    power: tuple[PowerSample, ...] = ()


def create(connection: duckdb.DuckDBPyConnection, inputs: Inputs) -> None:
    """Make the tables; they are there and empty for what was not given."""
    _table(connection, "given_prices", _PRICE, [*_prices(inputs.prices)])
    outcomes = [{"trajectory_id": key, "outcome": value} for key, value in inputs.outcomes.items()]
    _table(connection, "given_outcomes", {"trajectory_id": "VARCHAR", "outcome": "VARCHAR"}, outcomes)
    power = [{"at_ns": at_ns, "watts": watts} for at_ns, watts in sorted(dict(inputs.power).items())]
    _table(connection, "given_power", {"at_ns": "BIGINT", "watts": "DOUBLE"}, power)
    given = inputs.deployment
    deployment = {"accelerators": given.accelerators, "power_w": given.power_w, "price_per_hour": given.price_per_hour}
    kinds = {"accelerators": "BIGINT", "power_w": "DOUBLE", "price_per_hour": "DOUBLE"}
    _table(connection, "given_deployment", kinds, [deployment])


_PRICE: Final = {
    "position": "BIGINT",
    "models": "VARCHAR[]",
    "providers": "VARCHAR[]",
    "servers": "VARCHAR[]",
    "from_ns": "BIGINT",
    "until_ns": "BIGINT",
    "currency": "VARCHAR",
    "input": "DOUBLE",
    "cached_input": "DOUBLE",
    "cache_write": "DOUBLE",
    "output": "DOUBLE",
}
"""Columns of `given_prices`; amounts per token."""


def _prices(table: Prices | None) -> Iterable[dict[str, Any]]:
    for position, price in enumerate(table.price if table else ()):
        yield {
            **{name: list(getattr(price, name)) for name in ("models", "providers", "servers")},
            **{name: _per_token(price, name) for name in ("input", "cached_input", "cache_write", "output")},
            "position": position,
            "from_ns": price.from_ns,
            "until_ns": price.until_ns,
            "currency": table.currency if table else None,
        }


def _per_token(price: Price, name: str) -> float:
    amount = getattr(price, name)
    return float(price.input if amount is None else amount) / PER_TOKENS


def _table(
    connection: duckdb.DuckDBPyConnection, name: str, columns: dict[str, str], rows: list[dict[str, Any]]
) -> None:
    kind = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
    connection.execute(
        f"CREATE OR REPLACE TABLE {name} AS "
        f"SELECT entry.* FROM (SELECT UNNEST(CAST($rows AS STRUCT({kind})[])) AS entry)",
        {"rows": [{column: row[column] for column in columns} for row in rows]},
    )


def load_outcomes(path: str | Path) -> dict[str, str]:
    """Outcomes of a file: CSV with the columns trajectory_id and outcome, or JSON lines with these keys.

    Raises:
        UsageError: it cannot be read, or a line of it; names the line.
    """
    found: dict[str, str] = {}
    for number, row in _rows(path, "outcomes", ("trajectory_id", "outcome")):
        trajectory, outcome = row["trajectory_id"], row["outcome"]
        if not isinstance(trajectory, str) or not trajectory:
            raise UsageError(f"{path}:{number}: no trajectory_id")
        if outcome not in OUTCOMES:
            raise UsageError(f"{path}:{number}: outcome {outcome!r}; write one of {', '.join(OUTCOMES)}")
        found[trajectory] = outcome
    return found


def load_power(path: str | Path) -> tuple[PowerSample, ...]:
    """Power samples of a file: CSV with the columns time and watts, or JSON lines with these keys.

    A time is seconds since 1970, or ISO 8601 (UTC without a zone). Samples of the same time are summed up, so a file
    may hold a line for each accelerator.

    Raises:
        UsageError: it cannot be read, or a line of it; names the line.
    """
    found: dict[int, float] = {}
    for number, row in _rows(path, "power samples", ("time", "watts")):
        try:
            at_ns, watts = _moment_ns(row["time"]), float(row["watts"])
        except (TypeError, ValueError) as problem:
            raise UsageError(f"{path}:{number}: not a time and watts: {problem}") from problem
        if not math.isfinite(watts) or watts < 0:
            raise UsageError(f"{path}:{number}: {watts} watts")
        found[at_ns] = found.get(at_ns, 0.0) + watts
    if len(found) < 2:
        raise UsageError(f"{path} holds fewer than two power samples")
    return tuple(sorted(found.items()))


def _moment_ns(value: Any) -> int:
    """Nanoseconds since 1970 of a number of seconds or an ISO 8601 time."""
    try:
        seconds = float(value)
        if not math.isfinite(seconds):
            raise OverflowError
    except ValueError:
        moment = datetime.fromisoformat(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) * 1000
    except OverflowError as problem:
        raise ValueError(f"{value!r} is no moment") from problem
    return round(seconds * 1e9)


def _rows(path: str | Path, what: str, columns: tuple[str, str]) -> Iterable[tuple[int, dict[str, Any]]]:
    """Line number and fields of each row of a CSV or JSON lines file, told apart by its first sign."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"cannot read {what} from {path}: {reason}") from problem
    if text.lstrip().startswith("{"):
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError as problem:
                raise UsageError(f"{path}:{number}: not a JSON object: {problem}") from problem
            yield number, _complete(path, number, row, columns)
        return
    reader = csv.DictReader(io.StringIO(text))
    if not set(columns) <= set(reader.fieldnames or ()):
        raise UsageError(f"{path} holds no {what}: its first line must name the columns {' and '.join(columns)}")
    for entry in reader:
        yield reader.line_num, _complete(path, reader.line_num, entry, columns)


def _complete(path: str | Path, number: int, row: dict[str, Any], columns: tuple[str, str]) -> dict[str, Any]:
    missing = [column for column in columns if row.get(column) is None]
    if missing:
        raise UsageError(f"{path}:{number}: no {missing[0]}")
    return row
