"""Options that many commands share, each declared once.

A group of options is a frozen dataclass whose fields carry Typer's annotations. A command takes the whole group as one
parameter and is registered through `grouped`, which shows Typer the single fields:

    @app.command()
    @grouped
    def turns(source: Source = None, *, selection: Selection, output: Output) -> None: ...
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from otel_agentperf.errors import UsageError

__all__ = [
    "Admin",
    "Format",
    "Given",
    "Listen",
    "Output",
    "Period",
    "ProxyStore",
    "Selection",
    "Source",
    "Tiers",
    "grouped",
    "parse_time",
]

_SELECTION: Final = "Which rows"
_GIVEN: Final = "What spans cannot tell"
_OUTPUT: Final = "Output"

Listen = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Proxied port. [default: 127.0.0.1:4000]")]

Admin = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Control routes. [default: 127.0.0.1:4001]")]

ProxyStore = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Trace store. [default: $OTEL_AGENTPERF_STORE, else agentperf-store]"),
]
"""The store that a proxy writes."""

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="A store directory, a file or glob of OTLP JSON lines (plain, .gz, .zst) or Parquet, `-` for standard "
        "input, or a URL: `jaeger+http://HOST:16686?service=NAME`, `tempo+http://HOST:3200?q={...}`, "
        "`clickhouse+http://HOST:8123/DATABASE`, `s3://BUCKET/PREFIX`. Default: `$OTEL_AGENTPERF_STORE`, else "
        "`./agentperf-store`.",
        show_default=False,
    ),
]
"""Where the spans are."""

Tiers = Annotated[
    list[str] | None,
    typer.Option(
        "--tier",
        metavar="POLICY:TIER",
        help="Judge by this tier, by all of a POLICY, or by FILE.toml:TIER (repeatable). Default: the presets that "
        "are made for the models seen.",
        show_default=False,
    ),
]
"""Targets to judge by."""


class Format(StrEnum):
    """Ways to write rows."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


_ENDINGS: Final = {
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".md": Format.MARKDOWN,
    ".parquet": Format.PARQUET,
}


@dataclass(frozen=True, kw_only=True)
class Period:
    """Which part of the source is read."""

    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only what began at or after TIME: ISO 8601 (UTC without a zone) or an age: `30m`, `1h`, `2d`.",
            rich_help_panel=_SELECTION,
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what began before TIME.", rich_help_panel=_SELECTION),
    ] = None
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say on standard error what a ClickHouse source has to read, and what each of its queries read.",
            rich_help_panel=_SELECTION,
        ),
    ] = False

    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """The times of `--since` and `--until`.

        Raises:
            UsageError: not a time, or an empty range.
        """
        now = datetime.now(UTC)
        since = None if self.since is None else parse_time(self.since, now, "--since")
        until = None if self.until is None else parse_time(self.until, now, "--until")
        if since is not None and until is not None and since >= until:
            raise UsageError(f"nothing lies between --since {self.since} and --until {self.until}")
        return since, until


@dataclass(frozen=True, kw_only=True)
class Selection(Period):
    """Which part of the source is read, and whose rows of it are shown."""

    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.", rich_help_panel=_SELECTION)] = (
        None
    )
    benchmark: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this benchmark.", rich_help_panel=_SELECTION)
    ] = None
    trajectory: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this trajectory.", rich_help_panel=_SELECTION)
    ] = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """What spans cannot tell."""

    prices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="Prices of tokens; docs/library.md shows the form.", rich_help_panel=_GIVEN
        ),
    ] = None
    outcomes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="How tasks came out: CSV or JSON lines with trajectory_id and outcome (success, failure, unknown).",
            rich_help_panel=_GIVEN,
        ),
    ] = None
    accelerators: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Accelerators of the deployment.", rich_help_panel=_GIVEN),
    ] = None
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Price of one accelerator-hour; calls without token prices share the cost of the time they were open.",
            rich_help_panel=_GIVEN,
        ),
    ] = None
    power_watts: Annotated[
        float | None,
        typer.Option(metavar="N", help="Mean power of the whole deployment.", rich_help_panel=_GIVEN),
    ] = None
    power: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Power over time: CSV or JSON lines with time and watts, or a Prometheus server and the query that "
            "gives watts, `http://HOST:9090?query=sum(...)`.",
            rich_help_panel=_GIVEN,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """How rows are written, and where."""

    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            help="Default: by the ending of the output file, else `table`.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to FILE.", rich_help_panel=_OUTPUT),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...|all",
            help="Columns, in this order; `otel-agentperf query` lists them. Default: the main ones in `table` and "
            "`markdown`, else all.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL", help="Only rows for which this condition over the columns holds.", rich_help_panel=_OUTPUT
        ),
    ] = None
    limit: Annotated[int | None, typer.Option(metavar="N", min=0, help="At most N rows.", rich_help_panel=_OUTPUT)] = (
        None
    )

    @property
    def form(self) -> Format:
        """The format to write."""
        return self.format or _ENDINGS.get(self.out.suffix.lower() if self.out else "", Format.TABLE)

    @property
    def file(self) -> Path | None:
        """The file to write; None is standard output."""
        return None if self.out is None or str(self.out) == "-" else self.out


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Show every field of a parameter that is a group of options as an option of its own."""
    signature = inspect.signature(command)
    groups: dict[str, Any] = {
        name: item.annotation for name, item in signature.parameters.items() if is_dataclass(item.annotation)
    }
    parameters = []
    for name, item in signature.parameters.items():
        if name not in groups:
            parameters.append(item.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        for option in fields(groups[name]):
            default = inspect.Parameter.empty if option.default is MISSING else option.default
            parameters.append(
                inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option.type)
            )

    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{option.name: values.pop(option.name) for option in fields(group)})
        command(**values)

    call.__name__ = command.__name__
    call.__doc__ = command.__doc__
    call.__module__ = command.__module__
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {item.name: item.annotation for item in parameters}
    return call


_AGE: Final = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_time(text: str, now: datetime, option: str = "time") -> datetime:
    """A moment from ISO 8601 (UTC when no zone is given) or an age before `now`: `90s`, `1h30m`, `2d`, `1w`.

    Raises:
        UsageError: neither.
    """
    age = _AGE.fullmatch(text)
    try:
        if text and age is not None:
            weeks, days, hours, minutes, seconds = (int(part or 0) for part in age.groups())
            return now - timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise UsageError(
            f"{option}: not a time: {text!r}; write 2026-07-31T12:00:00Z, or an age such as 30m, 1h or 2d"
        ) from exc
