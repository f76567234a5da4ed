"""The command `watch`: what agents meet right now, live in the terminal or once as text."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from otel_agentperf.cli.common import parse_address
from otel_agentperf.cli.options import Source, Tiers, parse_time
from otel_agentperf.cli.source import tiers_of
from otel_agentperf.errors import SourceError, UsageError

if TYPE_CHECKING:
    from otel_agentperf.policies import Tier
    from otel_agentperf_analyzers.report.watch import Now

__all__ = ["Proxy", "register"]

ADMIN_TIMEOUT_S = 2.0


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy tells of itself (`/status` of its control routes)."""

    address: str
    state: str
    upstream: str
    inflight: int
    """Exchanges that are open."""
    trouble: tuple[str, ...]
    """What is missing or was dropped, in words."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(watch)


def watch(
    source: Source = None,
    *,
    tier: Tiers = None,
    window: Annotated[
        str, typer.Option(metavar="AGE", help="How far back it looks: `90s`, `15m`, `2h`; `w` changes it.")
    ] = "15m",
    every: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Look again after so long; a large source takes longer.")
    ] = 3.0,
    admin: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Control routes of the proxy that writes the store: open calls, what was dropped."
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print it once, as text. Default where the output is no terminal.")
    ] = False,
) -> None:
    """Watch agents, SLO tiers and the slowest turns while a proxy writes them.

    Enter shows the trajectory of the row, `w` changes how far back it looks, `p` pauses, `q` ends. Spans come when
    their calls have ended: calls that are open are only counted, with `--admin`.

    Example:

        otel-agentperf watch --window 1h --once
    """
    tiers = tiers_of(tier)
    back = _age(window)
    proxy = None if admin is None else _asking(admin)
    if once or not sys.stdout.isatty():
        _print(look(source, back, tiers), None if proxy is None else proxy())
        return
    from otel_agentperf.cli.watch_screen import Watch

    Watch(
        lambda window: look(source, window, tiers),
        lambda name, width: _waterfall(source, name, width),
        proxy,
        window=back,
        every_s=every,
    ).run()


def look(source: str | None, window: timedelta, tiers: "tuple[Tier, ...]") -> "Now":
    """What the source holds of the time from now on back.

    Raises:
        SourceError: it cannot be read.
    """
    from otel_agentperf_analyzers import open_source
    from otel_agentperf_analyzers.report.watch import look

    now = datetime.now(UTC)
    with open_source(source, since=now - window) as database:
        return look(database, now=now, window=window, tiers=tiers)


def _waterfall(source: str | None, trajectory: str, width: int) -> str:
    """A trajectory as `otel-agentperf trajectory` shows it, with the terminal's colours."""
    import io

    from rich.console import Console

    from otel_agentperf_analyzers import open_source
    from otel_agentperf_analyzers.explain import waterfall

    text = io.StringIO()
    with open_source(source) as database:
        waterfall(database, trajectory, Console(file=text, force_terminal=True, width=width, highlight=False))
    return text.getvalue()


def _print(now: "Now", proxy: Proxy | None) -> None:
    from rich.console import Console

    from otel_agentperf_analyzers.report.watch import render

    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)
    render(now, console)
    if proxy is not None:
        console.print(f"\n{told(proxy)}", markup=False, soft_wrap=True)


def told(proxy: Proxy) -> str:
    """What a proxy tells, in a line."""
    return " · ".join(
        (f"proxy {proxy.address} {proxy.state}", f"{proxy.inflight:,} calls open", proxy.upstream, *proxy.trouble)
    )


def _asking(admin: str) -> Callable[[], Proxy]:
    """Asks the proxy with these control routes.

    Raises:
        UsageError: not an address.
        SourceError: (when asked) it does not answer.
    """
    host, port = parse_address(admin)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/status"

    def ask() -> Proxy:
        import httpx

        try:
            answer = httpx.get(url, timeout=ADMIN_TIMEOUT_S, trust_env=False).raise_for_status().json()
            return _proxy(admin, answer)
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
            reason = f"{exc}" or type(exc).__name__
            raise SourceError(f"{admin}: no control routes of a proxy answer there: {reason}") from exc

    return ask


def _proxy(address: str, status: dict[str, Any]) -> Proxy:
    relays = [relay["stats"] for relay in status["relays"]]
    observer = status["observer"]["stats"]
    trouble = []
    if silent := sum(stats is None for stats in relays):
        trouble.append(f"{silent} of {len(relays)} relays do not answer")
    if observer is None:
        trouble.append("the observer does not answer")
    dropped = sum(stats["channel"]["frames_dropped"] for stats in relays if stats is not None)
    if dropped:
        trouble.append(f"{dropped:,} frames dropped")
    return Proxy(
        address=address,
        state=status["state"],
        upstream=status["upstream"],
        inflight=sum(stats["inflight"] for stats in relays if stats is not None),
        trouble=tuple(trouble),
    )


def _age(text: str) -> timedelta:
    """An age such as `15m`.

    Raises:
        UsageError: not an age, or none at all.
    """
    now = datetime.now(UTC)
    age = now - parse_time(text, now, "--window")
    if age <= timedelta():
        raise UsageError(f"--window: not an age: {text!r}; write 90s, 15m or 2h")
    return age
