"""The HTML report as text, and the data of its plots: what a browser is not needed for."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import busy_store
import msgspec
import pytest

from otel_agentperf import policies, pricing
from otel_agentperf_analyzers import Database, Inputs, open_source
from otel_agentperf_analyzers.explain import Explanation, explain
from otel_agentperf_analyzers.report import Report, build
from otel_agentperf_analyzers.report.charts import Chart, ImageFormat, charts, draw, left_out, write_images
from otel_agentperf_analyzers.report.charts.draw import BENCHMARKS, SAMPLE
from otel_agentperf_analyzers.report.charts.story import LINES
from otel_agentperf_analyzers.report.charts.style import LIGHT, resolved
from otel_agentperf_analyzers.report.html import page, tables
from otel_agentperf_analyzers.report.html.colours import DARK


class Made(NamedTuple):
    """A report with all that its page is made of."""

    report: Report
    explanation: Explanation
    charts: tuple[Chart, ...]
    capacities: list[dict[str, Any]]

    def chart(self, id_: str) -> Chart:
        [found] = [each for each in self.charts if each.id == id_]
        return found


def made_of(database: Database, *tiers: policies.Tier) -> Made:
    report, explanation = build(database, tiers=tiers), explain(database)
    return Made(
        report,
        explanation,
        charts(database, report, explanation, tiers=tiers),
        database.judged("capacity", tiers).to_pylist(),
    )


@pytest.fixture(scope="module")
def busy_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busy_store.write(tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="module")
def busy(busy_place: Path) -> Iterator[Database]:
    with open_source(str(busy_place)) as database:
        yield database


@pytest.fixture(scope="module")
def made(busy: Database) -> Made:
    return made_of(busy)


@pytest.fixture(scope="module")
def html(made: Made) -> str:
    return page(*made, busy_store.NOON)


def test_nothing_is_fetched_and_nothing_can_be(html: str) -> None:
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith("default-src 'none';")
    before_scripts = html[: html.index('<script type="application/json"')]
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", before_scripts)
    assert re.findall(r"<link[^>]*>", html) == ['<link rel="icon" href="data:,">']
    assert not re.search(r"<(?:img|iframe|object|embed|base)\b", before_scripts)


def test_what_clients_say_ends_no_script(made: Made) -> None:
    said = f"{busy_store.HOSTILE}<!--<script>"
    html = page(*made._replace(charts=(replace(made.charts[0], caption=said),)), busy_store.NOON)
    assert busy_store.HOSTILE not in html
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == html.count("</script") == 3
    [spec] = json.loads(scripts[0]).values()
    assert spec["description"].endswith(said)
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&lt;!--" in html


def test_verdicts_stand_above_everything_else(html: str, made: Made) -> None:
    cards = re.findall(r'<li class="card (\w*)">(.*?)</li>', html, re.DOTALL)
    assert html.index("<h2>Verdicts</h2>") < html.index("<h2>Benchmark bench-2")
    assert [mood for mood, _ in cards[:4]] == ["doubt", "bad", "bad", "bad"]
    first = re.sub(r"<[^>]+>|\s+", " ", cards[0][1])
    assert re.search(r"gpt-oss-120b#1\s+not valid\s+4\s+agents", first)
    assert "4 agents held it, but no level is valid as a result" in first
    live = [row for row in made.capacities if row["method"] == "live"]
    assert all(row["statement"] in html for row in live)


def test_a_margin_is_that_of_the_verdict(made: Made, busy: Database) -> None:
    chart = made.chart("benchmark-1-capacity-aa-agentperf@2026-07")
    assert chart.section == "Benchmark bench-2"
    drawn = {(row["tier"], row["agents"]): (row["margin"], row["verdict"]) for row in chart.rows}
    judged = [row for row in busy.slo().to_pylist() if row["benchmark_id"] == "bench-2"]
    words = {(True, False): "holds, but not valid", (False, False): "misses"}
    assert drawn == {(row["tier"], row["level"]): (row["margin"], words[row["holds"], row["valid"]]) for row in judged}


def test_live_loads_have_the_intervals_of_the_capacity_curve(made: Made, busy: Database) -> None:
    chart = made.chart("live-1-capacity-aa-agentperf@2026-07")
    curve = [row for row in busy.relation("capacity_curve").to_pylist() if row["tier"] == "gpt-oss-120b#1"]
    drawn = [row for row in chart.rows if row["tier"] == "gpt-oss-120b#1"]
    assert len(drawn) == len(curve) > 5
    for row, load in zip(drawn, sorted(curve, key=lambda each: each["agents_low"]), strict=True):
        targets = {target["metric"]: target for target in load["targets"]}
        speed, ttft = targets["output_speed"], targets["ttft"]
        assert row["margin"] == pytest.approx(min(speed["found"] / speed["wanted"], ttft["wanted"] / ttft["found"]))
        assert row["margin_low"] <= row["margin"] <= row["margin_high"]
    verdicts = {"holds": "holds", "fails": "misses"}
    assert {row["verdict"] for row in drawn} <= {*verdicts.values(), "cannot be told"}


def test_spreads_are_the_percentiles_of_the_turns(made: Made, busy: Database) -> None:
    chart = made.chart("benchmark-2-output_speed")
    exact = busy.query("""
        SELECT level, COUNT(*) AS turns, QUANTILE_CONT(output_speed_tps, [0.05, 0.5, 0.95]) AS percentiles
        FROM turns WHERE benchmark_id = 'bench-1' AND phase = 'steady' AND status = 'ok' GROUP BY level ORDER BY level
    """).to_pylist()
    windows = {row["level"]: row["window_s"] for row in busy.relation("levels", benchmark="bench-1").to_pylist()}
    assert [row["load"] for row in chart.rows] == [str(row["level"]) for row in exact]
    for row, wanted in zip(chart.rows, exact, strict=True):
        if wanted["level"] < 16:  # its last turns begin after the window
            assert row["turns"] == wanted["turns"]
            assert [row["p5"], row["p50"], row["p95"]] == pytest.approx(wanted["percentiles"])
        assert windows[wanted["level"]] == 60


def test_turns_of_live_traffic_are_each_at_one_load(made: Made, busy: Database) -> None:
    [(turns,)] = busy.connection.execute("""
        SELECT COUNT(*) FROM turns
        WHERE benchmark_id IS NULL AND kind = 'turn' AND request_model = 'gpt-oss-120b' AND NOT is_failed(status)
    """).fetchall()
    assert sum(row["turns"] for row in made.chart("live-1-ttft").rows) == turns
    loads = [row["load"] for row in made.chart("live-1-ttft").rows]
    assert loads[:4] == ["1", "2", "3", "4–5"]


def test_what_is_drawn_is_bounded_and_samples_say_so(made: Made) -> None:
    for chart in made.charts:
        assert len(chart.sample) <= 6 * SAMPLE
        assert len(chart.rows) <= 3 * 2 * 241
    chart = made.chart("live-1-ttft")
    assert sum(row["turns"] for row in chart.rows) > len(chart.sample)
    assert f"Dots are a sample of {len(chart.sample):,} turns." in chart.caption


def test_a_long_trajectory_shows_the_turns_with_the_most_time(tmp_path: Path) -> None:
    spans = list(busy_store.trajectory(random.Random(1), "long", 0.0, LINES + 20, 2.0, "small-model", {}))
    busy_store.write_spans(tmp_path, spans)
    with open_source(str(tmp_path)) as database:
        chart = made_of(database).chart("live-slowest-trajectory")
    assert "20 shorter ones left out" in chart.caption
    drawn = {row["line"] for row in chart.rows}
    assert len(drawn) == LINES


def test_a_waterfall_leaves_nothing_out_of_a_call(made: Made, busy: Database) -> None:
    chart = made.chart("live-slowest-trajectory")
    [trajectory] = re.findall(r"^Trajectory ([\w-]+),", chart.caption)
    calls = busy.relation("attempts", trajectory=trajectory).to_pylist()
    drawn = [row for row in chart.rows if row["part"] in ("first token", "answer", "failed attempt")]
    assert sum(row["seconds"] for row in drawn) == pytest.approx(sum(call["e2e_latency_s"] for call in calls), rel=1e-3)
    [head] = busy.relation("trajectories", trajectory=trajectory).to_pylist()
    assert max(row["end_s"] for row in chart.rows) == pytest.approx(head["job_latency_s"], rel=1e-3)


def test_other_tiers_bring_their_lines_and_their_metrics(busy: Database, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        '[[policy]]\nname = "own"\nversion = "1"\ndescription = "d"\nsource = "s"\ncomparable = false\n'
        'fallback = false\nttft_metric = "ttft"\nspeed_percentile = 25\nttft_percentile = 95\nmax_error_rate = 0.5\n'
        "skip_tool_call_turns = false\nmin_trajectories = 1\nmin_trajectories_per_agent = 0\nmin_steady_s = 1\n"
        'min_hold_s = 0\n[[policy.tier]]\nname = "prompt"\nmodels = ["*"]\n'
        '[[policy.tier.target]]\nmetric = "e2e_latency"\nmax = 6\npercentile = 90\n'
    )
    made = made_of(busy, *policies.select(str(file)))
    chart = made.chart("benchmark-1-e2e_latency")
    assert "the diamond is P90" in chart.caption
    assert '"prompt ≤ 6"' in json.dumps(chart.spec, ensure_ascii=False)
    assert made.chart("benchmark-1-capacity-own@1").rows


def test_outcomes_are_counted_and_what_nobody_told_is_no_failure(made: Made) -> None:
    told = {(row["of"], row["outcome"]): row["tasks"] for row in made.chart("outcomes").rows}
    assert told["live traffic", "succeeded"] == told["live traffic", "failed"] == told["live traffic", "not told"] == 60
    assert {outcome for of, outcome in told if of == "agent coder"} == {"succeeded"}
    assert not any(of.startswith("bench-") for of, _ in told)
    assert not [chart for chart in made.charts if chart.id == "costs"]


def test_costs_are_drawn_where_prices_are_known(busy_place: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "USD"\n[[price]]\nmodels = ["*"]\ninput = 1.0\ncached_input = 0.1\noutput = 4.0\n')
    with open_source(str(busy_place), inputs=Inputs(prices=pricing.load(prices))) as database:
        made = made_of(database)
        costs = {row["of"]: row["cost"] for row in made.chart("costs").rows}
        [row] = database.relation("tasks", where="dimension = 'all' AND benchmark_id IS NULL").to_pylist()
    assert costs["live traffic"] == pytest.approx(row["cost_per_task"])
    assert len(costs) == 12
    assert "bars of fewer tasks left out" in made.chart("costs").caption


def test_many_benchmarks_are_drawn_in_part_and_listed_in_full(made: Made) -> None:
    first = made.report.benchmarks[0]
    many = msgspec.structs.replace(
        made.report,
        benchmarks=tuple(
            msgspec.structs.replace(first, benchmark_id=f"many-{number}") for number in range(BENCHMARKS + 1)
        ),
    )
    assert left_out(many) == (f"Plots show the {BENCHMARKS} newest of {BENCHMARKS + 1} benchmarks; tables have all.",)
    text = page(many, made.explanation, (), [], busy_store.NOON)
    assert all(f"many-{number}" in text for number in range(BENCHMARKS + 1))


def test_long_tables_say_what_they_leave_out(made: Made) -> None:
    tool = made.report.tools[0]
    many = tables.tools(msgspec.structs.replace(made.report, tools=(tool,) * (tables.ROWS + 5)))
    assert many is not None
    assert len(many.rows) == tables.ROWS
    assert many.left_out == f"The first {tables.ROWS} of {tables.ROWS + 5} rows; otel-agentperf tools has all."


def test_what_has_no_value_says_why_in_words(made: Made) -> None:
    table = tables.undefined(made.report)
    assert table is not None
    [(_, _, reason, number)] = [
        row for row in table.rows if (row[0].text, row[1].text) == ("cost_of_trajectory", "trajectories")
    ]
    assert reason.text == "no price fits, or none was given"
    [counts] = [row.count for row in made.report.undefined if row.metric == "cost_of_trajectory"]
    assert number.text == f"{counts:,}"


def test_margins_without_a_place_on_the_axis_are_left_out_and_counted(made: Made) -> None:
    rows = made.chart("benchmark-1-capacity-aa-agentperf@2026-07").rows
    odd = [rows[0] | {"margin": margin} for margin in (None, 0.0, float("inf"))]
    [chart] = draw.margins_of("id", "section", [*rows, *odd], "Caption.")
    assert chart.caption.endswith("3 verdicts without a value left out.")
    assert list(draw.margins_of("id", "section", odd, "Caption.")) == []


def test_columns_without_any_value_are_left_out(made: Made) -> None:
    table = tables.figures(made.report.live, "c", by_level=False)
    assert table is not None
    assert "TTFT P95 s" in table.titles
    assert not {"power W", "cost", "in flight"} & set(table.titles)


def test_an_empty_source_has_a_page(tmp_path: Path) -> None:
    busy_store.write_spans(tmp_path, [("GET /", 0.0, 1.0, {"http.request.method": "GET"})])
    with open_source(str(tmp_path)) as database:
        made = made_of(database)
    assert made.charts == ()
    assert "No turns of agents: nothing to judge." in page(*made, busy_store.NOON)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "raised"), [(LIGHT, "#f6f8fa"), (DARK, "#1a2028")], ids=["light", "dark"])
def test_colours_can_be_read(colours: dict[str, str], raised: str) -> None:
    assert LIGHT.keys() == DARK.keys()
    for ground in (colours["paper"], raised):
        for name in ("ink", "muted", "good", "bad", "doubt"):
            assert contrast(colours[name], ground) >= 4.5, name
    # Lines of tiers have their names beside them in the same colour.
    for name in (each for each in colours if each.startswith("series-")):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name


def test_plots_are_files_of_their_own(made: Made, tmp_path: Path) -> None:
    chosen = [made.chart("benchmark-1-ttft"), made.chart("live-1-capacity-aa-agentperf@2026-07")]
    [ttft, capacity] = write_images(chosen, tmp_path / "svg", ImageFormat.SVG)
    assert ttft.name == "benchmark-1-ttft.svg"
    text = ttft.read_text()
    assert "var(" not in text
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "Time to first token" in text
    assert capacity.name == "live-1-capacity-aa-agentperf@2026-07.svg"
    [png] = write_images(chosen[:1], tmp_path / "png", ImageFormat.PNG)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_colours_have_names_only() -> None:
    assert resolved({"a": ["var(--ink)"], "b": 1}) == {"a": [LIGHT["ink"]], "b": 1}
