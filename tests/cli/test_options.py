"""Times and bounds of `--since` and `--until`; groups of options."""

from datetime import UTC, datetime, timedelta

import pytest

from otel_agentperf.cli.options import Format, Output, Selection, parse_time
from otel_agentperf.errors import UsageError

NOW = datetime(2026, 7, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("1h", NOW - timedelta(hours=1)),
        ("2d", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(days=7)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("0s", NOW),
        ("2026-07-30", datetime(2026, 7, 30, tzinfo=UTC)),
        ("2026-07-30T08:15", datetime(2026, 7, 30, 8, 15, tzinfo=UTC)),
        ("2026-07-30 08:15:01.25", datetime(2026, 7, 30, 8, 15, 1, 250_000, tzinfo=UTC)),
        ("2026-07-30T08:15:00Z", datetime(2026, 7, 30, 8, 15, tzinfo=UTC)),
        ("2026-07-30T08:15:00+02:00", datetime(2026, 7, 30, 6, 15, tzinfo=UTC)),
    ],
)
def test_a_time_is_iso_in_utc_or_an_age(text: str, moment: datetime) -> None:
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "1", "h", "-1h", "1h 30m", "30m1h", "2026-13-01", "9" * 20 + "w"])
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match=r"--since: not a time.*write .* or an age such as"):
        parse_time(text, NOW, "--since")


def test_bounds_that_leave_nothing_are_refused() -> None:
    assert Selection().bounds() == (None, None)
    with pytest.raises(UsageError, match="nothing lies between --since 1h and --until 2h"):
        Selection(since="1h", until="2h").bounds()


@pytest.mark.parametrize(
    ("chosen", "file", "form"),
    [
        (None, None, Format.TABLE),
        (None, "rows.json", Format.JSON),
        (None, "rows.ndjson", Format.JSONL),
        (None, "rows.CSV", Format.CSV),
        (None, "rows.md", Format.MARKDOWN),
        (None, "rows.parquet", Format.PARQUET),
        (None, "rows.txt", Format.TABLE),
        (None, "-", Format.TABLE),
        (Format.JSON, "rows.csv", Format.JSON),
    ],
)
def test_the_ending_of_the_file_gives_the_format_unless_one_is_asked_for(
    chosen: Format | None, file: str | None, form: Format
) -> None:
    from pathlib import Path

    assert Output(format=chosen, out=None if file is None else Path(file)).form is form
