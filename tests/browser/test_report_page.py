"""The HTML report in a real browser: it draws, sorts, saves, prints, keeps to itself, and can be read by everyone."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import busy_store
import pytest

from otel_agentperf_analyzers import open_source
from otel_agentperf_analyzers.explain import explain
from otel_agentperf_analyzers.report import build
from otel_agentperf_analyzers.report.charts import charts
from otel_agentperf_analyzers.report.html import page as page_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    with open_source(str(busy_store.write(place / "store"))) as database:
        content, explanation = build(database), explain(database)
        drawn = charts(database, content, explanation)
        capacities = database.judged("capacity").to_pylist()
    file = place / "report.html"
    file.write_text(page_of(content, explanation, drawn, capacities, busy_store.NOON))
    return file


def levels(page: Any) -> Any:
    return page.locator("table.sortable", has=page.get_by_text("Levels, over their steady windows")).first


def column(table: Any, place: int) -> list[str]:
    # The page writes the table's rows when it is opened.
    table.locator("tbody tr").first.wait_for(state="attached")
    return [text.strip() for text in table.locator(f"tbody td:nth-child({place})").all_text_contents()]


def test_every_plot_is_drawn_without_an_error_and_without_network(report: Path, opened: Open) -> None:
    it = opened(report)
    plots = it.page.locator("[data-plot]")
    assert plots.count() > 15
    for plot in plots.all():
        assert plot.locator("svg .mark-group, svg g[class*='mark-']").count() > 0, plot.get_attribute("data-plot")
    assert it.asked == [report.as_uri()]
    assert it.said == []


def test_what_clients_say_stays_text(report: Path, opened: Open) -> None:
    it = opened(report)
    assert it.page.get_by_text(busy_store.HOSTILE, exact=True).count() > 0
    assert it.page.locator("img").count() == 0
    assert it.said == []


def test_a_heading_sorts_and_turns_round(report: Path, opened: Open) -> None:
    page = opened(report).page
    table = levels(page)
    assert column(table, 1) == ["1", "2", "4", "8", "16"]
    head = table.get_by_role("columnheader", name="agents").first
    head.get_by_role("button").click()
    assert (column(table, 1), head.get_attribute("aria-sort")) == (["16", "8", "4", "2", "1"], "descending")
    head.get_by_role("button").press("Enter")
    assert (column(table, 1), head.get_attribute("aria-sort")) == (["1", "2", "4", "8", "16"], "ascending")
    table.get_by_role("columnheader", name="TTFT P95 s").get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(table, 1) == ["16", "8", "4", "2", "1"]


def test_what_has_no_value_stays_last(report: Path, opened: Open) -> None:
    page = opened(report).page
    table = page.locator("table.sortable", has=page.get_by_text("What got done, and what it cost"))
    at = column(table.locator("thead").locator(".."), 1) and [
        text.strip() for text in table.locator("th").all_text_contents()
    ].index("success")
    button = table.locator("th").nth(at).get_by_role("button")
    for _ in range(2):
        button.click()
        shown = column(table, at + 1)
        known = [text for text in shown if text != "–"]
        assert known
        assert shown == known + ["–"] * (len(shown) - len(known))
    assert [float(text.rstrip("%")) for text in known] == sorted(float(text.rstrip("%")) for text in known)


def colour_of(page: Any, selector: str, name: str) -> str:
    return str(page.eval_on_selector(selector, f"it => getComputedStyle(it).{name}"))


def test_colours_follow_the_system_and_the_button(report: Path, opened: Open) -> None:
    light, dark = opened(report, color_scheme="light").page, opened(report, color_scheme="dark").page
    axis = "[data-plot] svg .role-axis-title text"
    assert colour_of(light, "body", "backgroundColor") == "rgb(255, 255, 255)"
    assert colour_of(dark, "body", "backgroundColor") == "rgb(18, 22, 28)"
    assert colour_of(light, axis, "fill") != colour_of(dark, axis, "fill")
    button = light.locator("#theme")
    names, grounds = [], []
    for _ in range(3):
        button.click()
        names.append(button.text_content())
        grounds.append(colour_of(light, "body", "backgroundColor"))
    assert names == ["Light", "Dark", "Auto"]
    assert grounds == ["rgb(255, 255, 255)", "rgb(18, 22, 28)", "rgb(255, 255, 255)"]
    button.click()
    light.reload()
    assert button.text_content() == "Light"


def saved(page: Any, figure: Any, kind: str) -> bytes:
    with page.expect_download() as download:
        figure.get_by_role("button", name=kind).click()
    assert (
        download.value.suggested_filename == f"{figure.get_attribute('id')}.{kind.lower().replace('vega-lite', 'json')}"
    )
    return Path(download.value.path()).read_bytes()


def test_the_data_of_a_plot_can_be_seen_and_saved(report: Path, opened: Open) -> None:
    it = opened(report, color_scheme="dark")
    figure = it.page.locator("#benchmark-1-ttft")
    figure.get_by_text("Data", exact=True).click()
    table = figure.locator("table")
    assert column(table, 1) == ["1", "2", "4", "8", "16"]
    assert "What is drawn" in str(table.locator("caption").text_content())
    rows = list(csv.DictReader(io.StringIO(saved(it.page, figure, "CSV").decode())))
    assert [row["load"] for row in rows] == ["1", "2", "4", "8", "16"]
    assert all(float(row["p5"]) <= float(row["p50"]) <= float(row["p95"]) for row in rows)
    spec = json.loads(saved(it.page, figure, "Vega-Lite"))
    assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    svg = saved(it.page, figure, "SVG").decode()
    assert svg.startswith("<svg")
    assert "var(" not in svg
    assert saved(it.page, figure, "PNG").startswith(b"\x89PNG")
    assert it.said == []


def test_a_mark_tells_its_numbers(report: Path, opened: Open) -> None:
    page = opened(report).page
    plot = page.locator("#benchmark-1-slowest-trajectory [data-plot]")
    plot.scroll_into_view_if_needed()
    plot.locator("svg .mark-rect path").first.hover()
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert {"line", "time for", "seconds"} <= set(tip.locator("dt").all_text_contents())
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_it_fits_a_telephone(report: Path, opened: Open) -> None:
    page = opened(report, viewport={"width": 390, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_print_is_light_and_leaves_the_controls_out(report: Path, opened: Open) -> None:
    page = opened(report, color_scheme="dark").page
    page.emulate_media(media="print")
    assert colour_of(page, "body", "backgroundColor") == "rgb(255, 255, 255)"
    assert all(page.locator(control).first.is_hidden() for control in ("nav", "#theme", "details.data"))
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts_the_verdicts_and_tables_are_there(report: Path, opened: Open) -> None:
    page = opened(report, java_script_enabled=False).page
    assert page.get_by_text("Plots and sorting need JavaScript").is_visible()
    assert column(levels(page), 1) == ["1", "2", "4", "8", "16"]
    assert page.locator(".card").count() > 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_known_barrier(report: Path, opened: Open, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    it = opened(report, color_scheme=scheme)
    for summary in it.page.locator("details.data > summary").all()[:2]:
        summary.click()
    found = axe.Axe().run(it.page).response["violations"]
    assert {each["id"]: [node["html"][:120] for node in each["nodes"][:3]] for each in found} == {}
    for plot in it.page.locator("[data-plot]").all():
        assert plot.get_attribute("aria-label")
