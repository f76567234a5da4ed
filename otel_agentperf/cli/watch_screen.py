"""The terminal view of `watch`."""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any, ClassVar, Final

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Label, Sparkline, Static
from textual.worker import get_current_worker

from otel_agentperf.cli.watch import Proxy, told
from otel_agentperf.errors import AgentPerfError
from otel_agentperf_analyzers.report.text import digits, plain
from otel_agentperf_analyzers.report.watch import TABLES, Now, headline
from otel_agentperf_analyzers.report.watch.text import Table, duration

__all__ = ["Watch"]

WINDOWS: Final = (
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
)

TICK_S: Final = 0.25

NARROWEST: Final = 80
"""Columns of a waterfall."""


class Rows(DataTable[Any]):
    """A table whose rows can be chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Trajectory"),
        Binding("tab", "app.focus_next", "Next table"),
    ]


class Watch(App[None]):
    """Looks again and again, in a thread, and shows what there is.

    Args:
        look: what the source holds of the time from now back to a window's beginning.
        waterfall: a trajectory as text with terminal colours, for so many columns.
        ask: what the proxy tells, where its control routes are known.
        every_s: from the end of one look to the next; at least as long as a look takes.
    """

    TITLE = "otel-agentperf watch"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; padding: 0 1; }
    #lines { height: 3; padding: 0 1; }
    #lines .line { width: 1fr; height: 3; margin-right: 2; }
    #lines Label { color: $text-muted; height: 1; }
    #lines Sparkline { height: 2; }
    .title { color: $text-muted; height: 1; padding: 0 1; }
    DataTable { height: auto; max-height: 8; scrollbar-size-horizontal: 0; }
    #agents { height: 1fr; max-height: 100%; min-height: 5; }
    .empty { display: none; }
    .-short #lines, .-short #models, .-short #models-title { display: none; }
    .-short #tiers { max-height: 5; }
    .-short #slowest { max-height: 4; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-short"), (36, "-tall")]  # noqa: RUF012 - as the base declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("p", "pause", "Pause"),
        Binding("r", "look", "Look now"),
        Binding("w", "window", "Window"),
    ]

    def __init__(
        self,
        look: Callable[[timedelta], Now],
        waterfall: Callable[[str, int], str],
        ask: Callable[[], Proxy] | None = None,
        *,
        window: timedelta,
        every_s: float,
    ) -> None:
        super().__init__()
        self._look_at, self._waterfall, self._ask = look, waterfall, ask
        self._windows = tuple(sorted({*WINDOWS, window}))
        self._window = window
        self._every_s = every_s
        self._is_paused = False
        self._is_looking = False
        self._is_asked = False
        """To look again when the look that is going on is done."""
        self._next = monotonic()
        self._now: Now | None = None
        self._proxy: Proxy | None = None
        self._problems: list[str] = []

    def compose(self) -> ComposeResult:
        yield Static("reading spans …", id="head")
        with Horizontal(id="lines"):
            for name in ("turns", "ttft"):
                with VerticalScroll(classes="line", can_focus=False):
                    yield Label(id=f"{name}-label")
                    yield Sparkline([0.0], id=name)
        for table in TABLES:
            yield Label(table.title, classes="title", id=f"{table.name}-title")
            yield Rows(id=table.name, cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        for table in TABLES:
            widget = self._widget(table)
            for title, _, right in table.columns:
                widget.add_column(Text(title, justify="right" if right else "left"))
        self._widget(TABLES[2]).focus()
        self.set_interval(TICK_S, self._tick)
        self._tick()

    def action_look(self) -> None:
        """Look now, or as soon as the look that is going on is done."""
        if self._is_looking:
            self._is_asked = True
        else:
            self._start()

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._is_paused = not self._is_paused
        self._show_head()

    def action_window(self) -> None:
        """Look back to the next window's beginning."""
        self._window = self._windows[(self._windows.index(self._window) + 1) % len(self._windows)]
        self.action_look()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show the trajectory of the row."""
        table = next(each for each in TABLES if each.name == event.data_table.id)
        if self._now is None or table.trajectory is None:
            return
        for row in table.rows(self._now):
            if table.key(row) == event.row_key.value:
                self.push_screen(Trajectory(table.trajectory(row), self._waterfall))
                return

    def _tick(self) -> None:
        if not self._is_looking and not self._is_paused and monotonic() >= self._next:
            self._start()

    def _start(self) -> None:
        self._is_looking, self._is_asked = True, False
        self._look_in_thread(self._window)

    @work(thread=True)
    def _look_in_thread(self, window: timedelta) -> None:
        worker = get_current_worker()
        began = monotonic()
        now, proxy, problems = None, None, []
        try:
            now = self._look_at(window)
        except AgentPerfError as exc:
            problems.append(str(exc))
        if self._ask is not None:
            try:
                proxy = self._ask()
            except AgentPerfError as exc:
                problems.append(str(exc))
        if not worker.is_cancelled:
            self.call_from_thread(self._looked, now, proxy, problems, monotonic() - began)

    def _looked(self, now: Now | None, proxy: Proxy | None, problems: list[str], took_s: float) -> None:
        self._is_looking = False
        self._next = monotonic() + max(self._every_s, took_s)
        self._proxy, self._problems = proxy, problems
        if now is not None:
            self._now = now
            for table in TABLES:
                self._fill(table, now)
            self._draw_lines(now)
        self._show_head()
        if self._is_asked:
            self._start()

    def _show_head(self) -> None:
        text = Text()
        if self._now is not None:
            text.append_text(headline(self._now))
            text.append(f"\n{plain(self._now.source)} at {self._now.at.astimezone():%H:%M:%S}", "dim")
        if self._is_paused:
            text.append(" · paused", "yellow")
        if self._proxy is not None:
            text.append(f"\n{plain(told(self._proxy))}", "yellow" if self._proxy.trouble else "")
        for problem in self._problems:
            text.append(f"\n{plain(problem)}", "red")
        self.query_one("#head", Static).update(text)

    def _draw_lines(self, now: Now) -> None:
        step_s = now.window_s / max(len(now.steps), 1)
        turns = [float(step.turns) for step in now.steps]
        times = [step.ttft_p95_s or 0.0 for step in now.steps]
        self.query_one("#turns", Sparkline).data = turns
        self.query_one("#ttft", Sparkline).data = times
        most = digits(max(turns, default=0.0) / step_s * 60)
        self.query_one("#turns-label", Label).update(f"turns over {duration(now.window_s)}, at most {most} per min")
        highest = digits(max(times, default=0.0))
        self.query_one("#ttft-label", Label).update(f"P95 TTFT, at most {highest} s")

    def _widget(self, table: Table) -> "DataTable[Any]":
        return self.query_one(f"#{table.name}", DataTable)

    def _fill(self, table: Table, now: Now) -> None:
        """Show the rows anew; the cursor stays on its row."""
        widget, rows = self._widget(table), table.rows(now)
        was, at = None, widget.cursor_row
        if widget.row_count:
            was = widget.coordinate_to_cell_key((at, 0)).row_key.value  # type: ignore[arg-type]
        offset = widget.scroll_offset
        widget.clear()
        keys = []
        for row in rows:
            cells = []
            for _, cell, right in table.columns:
                text = cell(row)
                text.justify = "right" if right else "left"
                cells.append(text)
            keys.append(table.key(row))
            widget.add_row(*cells, key=keys[-1])
        if rows:
            widget.move_cursor(row=keys.index(was) if was in keys else min(at, len(rows) - 1), scroll=False)
            widget.scroll_to(offset.x, offset.y, animate=False)
        is_shown = bool(rows) or table.name == "agents"
        title = self.query_one(f"#{table.name}-title", Label)
        for each in (widget, title):
            each.set_class(not is_shown, "empty")
        more = (
            f", the latest {len(rows):,} of {now.agents:,}" if table.name == "agents" and now.agents > len(rows) else ""
        )
        title.update(f"{table.title}{more}")


class Trajectory(ModalScreen[None]):
    """One trajectory as a waterfall."""

    CSS = """
    Trajectory { align: center middle; }
    #waterfall { width: 96%; height: 92%; border: round $primary; background: $surface; padding: 0 1; }
    #waterfall Static { width: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Back"),
    ]

    def __init__(self, trajectory: str, waterfall: Callable[[str, int], str]) -> None:
        super().__init__()
        self._trajectory, self._waterfall = trajectory, waterfall

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="waterfall"):
            yield Static("reading spans …")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#waterfall").focus()
        self._read(max(NARROWEST, int(self.app.size.width * 0.96) - 6))

    @work(thread=True)
    def _read(self, width: int) -> None:
        worker = get_current_worker()
        try:
            text = Text.from_ansi(self._waterfall(self._trajectory, width))
        except AgentPerfError as exc:
            text = Text(str(exc), "red")
        if not worker.is_cancelled:
            self.app.call_from_thread(self.query_one("#waterfall Static", Static).update, text)
