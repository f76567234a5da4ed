"""Puts the page together: report, explanation and plots into one file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agentperf._version import __version__
from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers.explain import Explanation
from otel_agentperf_analyzers.report.charts import Chart, left_out, runtime, vega_lite
from otel_agentperf_analyzers.report.charts.draw import BENCHMARKS, LIVE, MODELS, TIME, section_of
from otel_agentperf_analyzers.report.charts.style import LIGHT
from otel_agentperf_analyzers.report.charts.work import WORK
from otel_agentperf_analyzers.report.html import tables
from otel_agentperf_analyzers.report.html.colours import DARK
from otel_agentperf_analyzers.report.html.verdicts import groups
from otel_agentperf_analyzers.report.model import Report
from otel_agentperf_analyzers.report.text import amount, count, integer, plain, share

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]

_ENCODE: Final = msgspec.json.Encoder(decimal_format="number").encode


def page(
    report: Report,
    explanation: Explanation,
    charts: Sequence[Chart],
    capacities: Sequence[dict[str, Any]],
    now: datetime,
) -> str:
    """The report as one HTML file.

    Args:
        explanation, charts: of the same source.
        capacities: rows of relation `capacity` for the report's tiers.
        now: when it is written.

    Raises:
        UsageError: the extra `report` is not installed.
    """
    specs = {chart.id: vega_lite(chart) for chart in charts}
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=f"AgentPerf report of {plain(report.source)}",
            report=report,
            source=plain(report.source),
            span=_span(report),
            key_figures=_key_figures(report),
            verdicts=groups(report, capacities, benchmarks=BENCHMARKS, models=MODELS),
            capacities=tables.capacities(capacities),
            sections=_sections(report, explanation, charts),
            notes=left_out(report),
            skipped=_skipped(report),
            version=__version__,
            written=now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            colours=[(name, light, DARK[name]) for name, light in LIGHT.items()],
            style=_text("page.css"),
            script=_text("page.js"),
            runtime=_in_script(runtime()),
            data=_in_script(_ENCODE(specs).decode()),
        )
    )


def _environment() -> "Environment":
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as exc:
        raise UsageError("the HTML report needs the extra `report`: pip install 'otel-agentperf[report]'") from exc
    return Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _text(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text("utf-8")


def _in_script(text: str) -> str:
    """Without what would end a script element, or begin a comment in it; the same to JSON and JavaScript, since `<` is
    followed by these letters in strings and regular expressions only."""
    for begin in ("/script", "/SCRIPT", "!--", "script", "SCRIPT"):
        text = text.replace(f"<{begin}", f"\\u003c{begin}")
    return text


def _span(report: Report) -> str:
    first, last = report.counts.first_time, report.counts.last_time
    if first is None or last is None:
        return ""
    return f"{first.astimezone(UTC):%Y-%m-%d %H:%M:%S} to {last.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _key_figures(report: Report) -> list[tuple[str, str]]:
    """What the source holds, in a few numbers."""
    counts = report.counts
    made = [
        ("trajectories", integer(counts.trajectories)),
        ("turns", integer(counts.turns)),
        ("tool calls", integer(counts.tool_calls)),
    ]
    retries = counts.attempts - counts.turns - counts.auxiliary_calls
    if counts.auxiliary_calls:
        made.append(("auxiliary calls", integer(counts.auxiliary_calls)))
    if retries:
        made.append(("retries", integer(retries)))
    rows = [*report.live, *(level for benchmark in report.benchmarks for level in benchmark.levels)]
    if rows:
        made.append(("input tokens", amount(sum(row.input_tokens or 0 for row in rows))))
        made.append(("output tokens", amount(sum(row.output_tokens or 0 for row in rows))))
    known = [row for row in rows if row.cache_hit is not None and row.input_tokens]
    if known:
        total = sum(row.input_tokens or 0 for row in known)
        made.append(("cache hit", share(sum((row.cache_hit or 0) * (row.input_tokens or 0) for row in known) / total)))
    costs = [row.cost for row in report.work if row.dimension == "all" and row.cost is not None]
    if costs:
        made.append(("cost", f"{sum(costs):,.2f}"))
    return made


def _skipped(report: Report) -> str:
    if not report.unread.lines:
        return ""
    first = plain(report.unread.examples[0]) if report.unread.examples else "unknown"
    return f"{count(report.unread.lines, 'unreadable line')} skipped, the first is {first}"


def _sections(report: Report, explanation: Explanation, charts: Sequence[Chart]) -> list[dict[str, Any]]:
    """Headings with their plots and tables, in order; those without either are left out."""

    def plots(heading: str) -> list[Chart]:
        return [chart for chart in charts if chart.section == heading]

    made: list[dict[str, Any]] = []
    for benchmark, of_benchmark in tables.benchmarks(report):
        about = [plain(benchmark.model)] if benchmark.model else []
        about += [f"preset {benchmark.preset}"] if benchmark.preset else []
        about += [count(benchmark.accelerators, "accelerator")] if benchmark.accelerators else []
        heading = section_of(benchmark)
        made.append({"heading": heading, "about": " · ".join(about), "charts": plots(heading), "tables": of_benchmark})
    if report.live:
        live = [tables.figures(report.live, "Models, over all turns outside benchmarks", by_level=False)]
        live += [tables.verdicts(group, caption) for caption, group in tables.policies(report.live_targets)]
        words = "turns outside benchmarks, whatever the load"
        made.append({"heading": LIVE, "about": words, "charts": plots(LIVE), "tables": live})
        for heading in dict.fromkeys(chart.section for chart in charts if chart.section.startswith(f"{LIVE} · ")):
            made.append({"heading": heading, "about": "", "charts": plots(heading), "tables": []})
    made.append(
        {
            "heading": TIME,
            "about": "",
            "charts": plots(TIME),
            "tables": [tables.times(explanation), tables.slowest(explanation), tables.jobs(report)],
        }
    )
    for heading, of_heading in (
        (WORK, [tables.work(report)]),
        ("Tools", [tables.tools(report)]),
        ("Cache and context", [tables.cache(explanation)]),
        ("Trouble", [tables.troubles(explanation)]),
        ("Without a value", [tables.undefined(report)]),
    ):
        made.append({"heading": heading, "about": "", "charts": plots(heading), "tables": of_heading})
    for number, section in enumerate(made):
        section["tables"] = [table for table in section["tables"] if table is not None]
        section["id"] = f"section-{number + 1}"
    return [section for section in made if section["charts"] or section["tables"]]
