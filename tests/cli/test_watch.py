"""`watch`: the figures of a window, as text and in the terminal view, over a store that grows."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import DataTable, Sparkline, Static

from otel_agentperf.cli.watch import Proxy
from otel_agentperf.cli.watch_screen import Trajectory, Watch
from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import open_source
from otel_agentperf_analyzers.report.watch import Now, look, render

Command = Callable[..., Any]

NOON = datetime(2026, 7, 31, 12, tzinfo=UTC)
ANNA_DONE = NOON + timedelta(seconds=10)
"""The store of `place` has anna's three turns until 8.25 s after noon, and bert's two an hour later."""

WINDOW = timedelta(minutes=15)


def looked(place: Path, now: datetime = ANNA_DONE, window: timedelta = WINDOW) -> Now:
    with open_source(str(place / "agentperf-store"), since=now - window, until=now) as database:
        return look(database, now=now, window=window)


def test_a_look_sees_the_window_only(place: Path) -> None:
    now = looked(place)
    assert (now.turns, now.agents, now.agents_last_minute, now.failed_turns) == (3, 1, 1, 0)
    [model] = now.models
    assert (model.turns, model.turns_per_min, model.ttft_p50_s) == (3, pytest.approx(0.2), 0.5)
    assert model.output_tps == pytest.approx((91 + 101 + 61) / 900)
    [agent] = now.seen
    assert (agent.trajectory_id, agent.turns, agent.tool_calls) == ("anna", 3, 2)
    assert agent.last_seen_s == pytest.approx(1.75)
    assert (agent.ttft_s, agent.output_speed_tps) == (1.0, 30.0)
    later = looked(place, NOON + timedelta(hours=1, seconds=30), timedelta(hours=2))
    assert [(each.trajectory_id, each.failed_turns) for each in later.seen] == [("bert", 1), ("anna", 0)]
    assert (later.agents, later.agents_last_minute, later.failed_turns) == (2, 1, 1)


def test_steps_are_equal_parts_of_the_window(place: Path) -> None:
    now = looked(place, window=timedelta(seconds=60))
    assert len(now.steps) == 60
    at = {index: (step.turns, step.ttft_p95_s) for index, step in enumerate(now.steps) if step.turns}
    assert at == {50: (1, 0.5), 53: (1, 0.25), 55: (1, 1.0)}


def test_tiers_say_what_was_found_and_what_is_wanted(place: Path) -> None:
    now = looked(place)
    first = next(each for each in now.standings if each.tier == "gpt-oss-120b#1")
    assert (first.benchmark_id, first.holds, first.margin) == (None, False, pytest.approx(0.45))
    assert first.found == "P25 output_speed 45.0 of 100, P95 ttft 0.950 of 5"


def test_slowest_turns_have_their_cause(place: Path) -> None:
    slowest = looked(place).slowest
    assert [(each.trajectory_id, each.turn_index, each.e2e_latency_s) for each in slowest] == [
        ("anna", 2, 3.0),
        ("anna", 0, 2.0),
        ("anna", 1, 1.25),
    ]
    assert slowest[0].ended_s == pytest.approx(1.75)


def test_benchmarks_are_watched_too(place: Path) -> None:
    now = NOON + timedelta(seconds=31)
    with open_source(str(place / "levels"), since=now - WINDOW) as database:
        seen = look(database, now=now, window=WINDOW)
    assert [(each.level, each.tier) for each in seen.standings[:3]] == [(4, "relaxed"), (4, "standard"), (4, "fast")]
    assert seen.seen[0].benchmark_id == "mini-1"


def test_plain_output_has_all_tables(place: Path) -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        render(looked(place), console)
    text = console.export_text()
    assert "1 agents in the last minute · 1 in 15 min · 3 turns" in text
    assert all(title in text for title in ("Models", "SLO tiers", "Agents", "Slowest turns"))


def test_without_a_terminal_it_prints_once(otel: Command) -> None:
    run = otel("watch", "--window", "52w")
    assert run.code == 0
    assert "agents in the last minute" in run.out or "no turn in the last" in run.out
    assert otel("watch", "nowhere", "--once").code == 3
    wrong = otel("watch", "--window", "soon")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)


def status_server(status: dict[str, Any]) -> HTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(status).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_the_proxy_tells_of_open_calls_and_what_it_dropped(otel: Command) -> None:
    relay = {"pid": 1, "stats": {"inflight": 3, "channel": {"frames_dropped": 7}}}
    server = status_server(
        {
            "state": "ready",
            "upstream": "http://vllm:8000",
            "relays": [relay, {"pid": None, "stats": None}],
            "observer": {"stats": None},
        }
    )
    with server:
        address = f"127.0.0.1:{server.server_port}"
        run = otel("watch", "--once", "--admin", address)
        server.shutdown()
    assert f"proxy {address} ready · 3 calls open · http://vllm:8000" in run.out
    for words in ("1 of 2 relays do not answer", "the observer does not answer", "7 frames dropped"):
        assert words in run.out
    gone = otel("watch", "--once", "--admin", address)
    assert (gone.code, gone.err.count("\n")) == (3, 1)


# --- The terminal view ------------------------------------------------------------------------------------------------


class Source:
    """What the view reads: the store at a moment that the test sets, or a problem."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.now = ANNA_DONE
        self.problem: str | None = None
        self.windows: list[timedelta] = []

    def look(self, window: timedelta) -> Now:
        self.windows.append(window)
        if self.problem is not None:
            raise SourceError(self.problem)
        return looked(self.place, self.now, window)


@pytest.fixture
def source(place: Path) -> Source:
    return Source(place)


def view(source: Source, ask: Callable[[], Proxy] | None = None) -> Watch:
    return Watch(
        source.look,
        lambda name, width: f"\x1b[1mwaterfall\x1b[0m of {name} in {width}",
        ask,
        window=WINDOW,
        every_s=3600,
    )


async def settled(pilot: Pilot[None]) -> None:
    """All looks are done and shown, also those that were asked for during another."""
    while list(pilot.app.workers):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()


def rows(app: Watch, table: str) -> list[list[str]]:
    widget = app.query_one(f"#{table}", DataTable)
    return [[str(cell) for cell in widget.get_row_at(index)] for index in range(widget.row_count)]


def head(app: Watch) -> str:
    return str(app.query_one("#head", Static).render())


async def test_the_view_shows_agents_tiers_and_slowest_turns(source: Source) -> None:
    app = view(source)
    async with app.run_test(size=(140, 44)) as pilot:
        await settled(pilot)
        assert "1 agents in the last minute" in head(app)
        assert [row[0] for row in rows(app, "agents")] == ["anna"]
        assert rows(app, "models")[0][:2] == ["gpt-oss-120b", "3"]
        assert any("misses 0.45×" in row for row in rows(app, "tiers"))
        assert [row[:2] for row in rows(app, "slowest")] == [["anna", "2"], ["anna", "0"], ["anna", "1"]]
        assert sum(app.query_one("#turns", Sparkline).data or ()) == 3


async def test_a_store_that_grows_is_seen_and_the_cursor_stays(source: Source) -> None:
    app = view(source)
    async with app.run_test(size=(140, 44)) as pilot:
        await settled(pilot)
        await pilot.press("w", "w")
        await settled(pilot)
        source.now = NOON + timedelta(hours=1, seconds=5)
        await pilot.press("r")
        await settled(pilot)
        agents = app.query_one("#agents", DataTable)
        assert [row[0] for row in rows(app, "agents")] == ["bert", "anna"]
        assert agents.get_row_at(agents.cursor_row)[0].plain == "anna"
        assert "failed" in head(app)


async def test_enter_shows_the_trajectory_of_the_row(source: Source) -> None:
    app = view(source)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, Trajectory)
        assert str(app.screen.query_one("#waterfall Static", Static).render()) == "waterfall of anna in 109"
        await pilot.press("escape")
        assert not isinstance(app.screen, Trajectory)


async def test_a_pause_stops_looking_and_r_looks_once(source: Source) -> None:
    app = view(source)
    async with app.run_test() as pilot:
        await settled(pilot)
        await pilot.press("p")
        assert "paused" in head(app)
        before = len(source.windows)
        await pilot.press("r")
        await settled(pilot)
        assert len(source.windows) == before + 1


async def test_w_looks_further_back(source: Source) -> None:
    app = view(source)
    async with app.run_test() as pilot:
        await settled(pilot)
        await pilot.press("w")
        await settled(pilot)
        assert source.windows[-1] == timedelta(hours=1)


async def test_a_source_that_cannot_be_read_is_said_and_tried_again(source: Source) -> None:
    source.problem = "agentperf-store is empty; send traffic through the proxy first"
    app = view(source)
    async with app.run_test() as pilot:
        await settled(pilot)
        assert source.problem in head(app)
        source.problem = None
        await pilot.press("r")
        await settled(pilot)
        assert "empty" not in head(app)
        assert rows(app, "agents")


async def test_the_proxy_has_a_line_and_its_silence_too(source: Source) -> None:
    answers: list[Proxy | SourceError] = [
        SourceError("127.0.0.1:4001: no control routes of a proxy answer there"),
        Proxy(address="127.0.0.1:4001", state="ready", upstream="http://vllm:8000", inflight=4, trouble=()),
    ]

    def ask() -> Proxy:
        answer = answers.pop()
        if isinstance(answer, SourceError):
            raise answer
        return answer

    app = view(source, ask)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert "proxy 127.0.0.1:4001 ready · 4 calls open" in head(app)
        await pilot.press("r")
        await settled(pilot)
        assert "no control routes of a proxy answer there" in head(app)
        assert rows(app, "agents")


async def test_a_small_terminal_shows_what_matters(source: Source) -> None:
    app = view(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        regions = [app.query_one(f"#{name}").region for name in ("tiers", "agents", "slowest")]
        assert all(region.height >= 3 and region.bottom <= 23 for region in regions)
        assert not app.query_one("#models").region
    async with view(source).run_test(size=(80, 44)) as pilot:
        await settled(pilot)
        assert pilot.app.query_one("#models").region.height == 2
