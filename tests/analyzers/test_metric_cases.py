"""The plain-text cases of `tests/cases/metrics`."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf import pricing
from otel_agentperf_analyzers import Database, Deployment, Inputs, load_outcomes, load_power

CASES = sorted((Path(__file__).parents[1] / "cases" / "metrics").glob("*.txt"))
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def _sections(text: str) -> list[tuple[str, str]]:
    _, *parts = re.split(r"^=== (\w+)\n", text, flags=re.MULTILINE)
    return list(zip(parts[::2], parts[1::2], strict=True))


def _rows(text: str) -> list[list[str]]:
    lines = [re.split(r"(?:^|\s)#\s", line)[0].strip() for line in text.splitlines()]
    return [[cell.strip() for cell in line.split("|")] for line in lines if line]


def _is_same(found: Any, wanted: str) -> bool:
    if found is None or wanted == "NULL":
        return found is None and wanted == "NULL"
    if isinstance(found, bool):
        return wanted == str(found).lower()
    if isinstance(found, datetime):
        found = (found - EPOCH).total_seconds()
    if isinstance(found, int | float):
        return math.isclose(found, float(wanted), rel_tol=1e-9, abs_tol=1e-9)
    return str(found) == wanted


def _inputs(given: dict[str, str], directory: Path) -> Inputs:
    """What a case gives beside its spans; times of power samples are seconds since it began."""

    def file(kind: str) -> Path:
        path = directory / kind
        text = given[kind]
        if kind == "power":
            header, *rows = text.split()
            text = "\n".join(
                [header, *(f"{float(row.split(',')[0]) + EPOCH.timestamp()},{row.split(',')[1]}" for row in rows)]
            )
        path.write_text(text)
        return path

    assert given.keys() <= {"prices", "outcomes", "power", "deployment"}
    words = dict(word.split("=") for word in given.get("deployment", "").split())
    return Inputs(
        prices=pricing.load(file("prices")) if "prices" in given else None,
        outcomes=load_outcomes(file("outcomes")) if "outcomes" in given else {},
        power=load_power(file("power")) if "power" in given else (),
        deployment=Deployment(
            **{name: int(value) if name == "accelerators" else float(value) for name, value in words.items()}
        ),
    )


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, tmp_path: Path, open_spans: Callable[..., Database]) -> None:
    (kind, spans), *rest = _sections(path.read_text())
    assert kind == "spans"
    given = {kind: text for kind, text in rest if kind not in ("query", "expect")}
    pairs = [(kind, text) for kind, text in rest if kind in ("query", "expect")]
    assert pairs
    assert [kind for kind, _ in pairs] == ["query", "expect"] * (len(pairs) // 2)
    database = open_spans(spans, _inputs(given, tmp_path))
    assert not database.skipped
    for (_, query), (_, expected) in zip(pairs[::2], pairs[1::2], strict=True):
        table = database.query(query)
        header, *wanted = _rows(expected)
        assert table.column_names == header
        found = [list(row.values()) for row in table.to_pylist()]
        assert len(found) == len(wanted), found
        for found_row, wanted_row in zip(found, wanted, strict=True):
            same = [_is_same(value, text) for value, text in zip(found_row, wanted_row, strict=True)]
            assert all(same), f"{query}\nfound  {found_row}\nwanted {wanted_row}"
