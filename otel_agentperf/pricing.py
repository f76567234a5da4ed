"""Prices of tokens, as data: what an attempt costs is looked up in a table that the user gives.

A table is a TOML file. No prices come with the package: they change, and differ by contract.

    currency = "USD"

    [[price]]
    models = ["example-large*"]       # patterns of the model asked for or that answered (`*`, `?`; case is ignored)
    providers = ["*"]                 # patterns of the provider; all when left out
    servers = ["*"]                   # patterns of the upstream's host; all when left out
    from = 2026-01-01                 # first day (or moment) that it holds; from the beginning when left out
    until = 2026-07-01                # first day that it no longer holds; for ever when left out
    input = 3.00                      # per million tokens
    cached_input = 0.30               # read from the cache; as `input` when left out
    cache_write = 3.75                # written to the cache; as `input` when left out
    output = 15.00                    # reasoning included

The first entry that fits the model, the provider, the host and the time of an attempt is taken.
"""

import tomllib
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from otel_agentperf.errors import UsageError

__all__ = ["Price", "Prices", "load"]

PER_TOKENS: Final = 1_000_000
"""Prices are for so many tokens."""

_Amount = Annotated[float, msgspec.Meta(ge=0)]
_Patterns = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the table; amounts per million tokens."""

    models: _Patterns
    providers: _Patterns = ("*",)
    servers: _Patterns = ("*",)
    # TOML has moments and days; msgspec cannot tell the two apart in a union.
    valid_from: Any = msgspec.field(default=None, name="from")
    valid_until: Any = msgspec.field(default=None, name="until")
    input: _Amount
    cached_input: _Amount | None = None
    cache_write: _Amount | None = None
    output: _Amount

    def __post_init__(self) -> None:
        for name, moment in (("from", self.valid_from), ("until", self.valid_until)):
            if moment is not None and not isinstance(moment, date):
                raise ValueError(f"`{name}` is not a date: {moment!r}; write 2026-01-31 without quotes")

    @property
    def from_ns(self) -> int | None:
        """Nanoseconds since 1970 from which it holds."""
        return _unix_ns(self.valid_from)

    @property
    def until_ns(self) -> int | None:
        """Nanoseconds since 1970 from which it no longer holds."""
        return _unix_ns(self.valid_until)


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price table."""

    price: Annotated[tuple[Price, ...], msgspec.Meta(min_length=1)]
    currency: Annotated[str, msgspec.Meta(min_length=1)] = "USD"


def load(path: str | Path) -> Prices:
    """Read a price table.

    Raises:
        UsageError: it cannot be read, or does not have the form above.
    """
    try:
        found = msgspec.convert(tomllib.loads(Path(path).read_text("utf-8")), Prices)
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"cannot read prices from {path}: {reason}") from problem
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(f"{path} is not TOML: {problem}") from problem
    except msgspec.ValidationError as problem:
        raise UsageError(f"{path} does not hold prices: {problem}") from problem
    for number, price in enumerate(found.price, 1):
        if price.from_ns is not None and price.until_ns is not None and price.from_ns >= price.until_ns:
            raise UsageError(f"{path}: price {number} ({', '.join(price.models)}) ends before it begins")
    return found


def _unix_ns(moment: date | None) -> int | None:
    if moment is None:
        return None
    at = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) * 1000
