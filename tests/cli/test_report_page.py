"""`report` as HTML and as plots: where they go, and what is said when the extra is missing."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
"""Arguments to the exit code, output and messages of the command; see conftest.py."""


def test_the_ending_of_the_file_asks_for_html(otel: Command, place: Path) -> None:
    run = otel("report", "levels", "-o", "report.html")
    assert (run.code, run.out) == (0, "")
    page = (place / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "Benchmark mini-1" in page
    assert "Live traffic" not in page


def test_html_goes_to_a_pipe_too(otel: Command) -> None:
    run = otel("report", "--format", "html")
    assert run.code == 0
    assert run.out.startswith("<!DOCTYPE html>")
    assert "Live traffic" in run.out


def test_one_benchmark_of_several_sources_is_alone_on_its_page(otel: Command, place: Path) -> None:
    for name in ("agentperf-store", "levels"):
        (place / "both").mkdir(exist_ok=True)
        (place / "both" / f"spans-{name}-0.jsonl").write_bytes((place / name / "spans-test-0.jsonl").read_bytes())
    run = otel("report", "both", "--benchmark", "mini-1", "-o", "one.html")
    assert run.code == 0
    page = (place / "one.html").read_text()
    assert "Benchmark mini-1" in page
    assert "Live traffic" not in page


@pytest.mark.parametrize(("form", "begin"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_plots_are_written_beside_whatever_is_asked_for(otel: Command, place: Path, form: str, begin: bytes) -> None:
    run = otel("report", "levels", "--format", "json", "--plots", "plots", "--plot-format", form)
    assert run.code == 0
    assert '"benchmarks"' in run.out
    written = sorted((place / "plots").iterdir())
    assert [path.name for path in written][:2] == [
        f"benchmark-1-capacity-demo@1.{form}",
        f"benchmark-1-context.{form}",
    ]
    assert all(path.read_bytes().startswith(begin) for path in written)
    assert f"{len(written)} plots in plots" in run.err


@pytest.mark.parametrize("module", ["vl_convert", "jinja2"])
def test_without_the_extra_it_says_how_to_get_it(otel: Command, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    run = otel("report", "-o", "report.html")
    assert run.code == 2
    assert run.err.count("\n") == 1
    assert "pip install 'otel-agentperf[report]'" in run.err
