"""The proxy that runs here, as its control routes tell."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from otel_agentperf._version import __version__
from otel_agentperf.cli.doctor.findings import Finding, note, ok, problem, warning
from otel_agentperf.cli.doctor.network import Unreachable, fetch

__all__ = ["at_work", "find"]

_LOST: Final = {
    "frames_dropped": "observations were dropped, because the observer is too slow",
    "calls_lost": "calls were lost to the observer",
}


def find(host: str, port: int) -> dict[str, Any] | None:
    """The status of the proxy whose control routes are there; None when it is something else, or nothing."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    try:
        reply = fetch(f"http://{f'[{host}]' if ':' in host else host}:{port}/status")
        found = msgspec.json.decode(reply.body, type=dict[str, Any])
    except (Unreachable, msgspec.DecodeError):
        return None
    return found if reply.status == 200 and {"state", "relays", "observer", "upstream"} <= found.keys() else None


def at_work(status: dict[str, Any], address: str) -> Iterator[Finding]:
    """What the status of a proxy says about it.

    Args:
        status: of its control routes.
        address: where it listens, for advice.
    """
    relays = [relay["stats"] for relay in status["relays"] if relay["stats"]]
    exchanges = sum(sum(stats["outcomes"].values()) for stats in relays)
    inflight = sum(stats["inflight"] for stats in relays)
    if status["state"] == "ready" and len(relays) == len(status["relays"]):
        yield ok("proxy", f"it runs for {status['uptime_s']:.0f} s; {exchanges} exchanges ended, {inflight} are open")
    else:
        yield problem(
            "proxy",
            f"it is {status['state']}, and {len(relays)} of {len(status['relays'])} relays answer",
            "see its log",
        )
    if status.get("version") != __version__:
        yield warning(
            "proxy", f"version {status.get('version')} runs, {__version__} is installed", "restart it when it suits"
        )
    if not exchanges and not inflight:
        yield warning(
            "proxy",
            "no client has called it",
            f"point clients to http://{address} (those that want a path: http://{address}/v1); see below for their "
            "settings",
        )
    yield from _troubles(status, relays)
    yield from _observer(status["observer"])


def _troubles(status: dict[str, Any], relays: list[dict[str, Any]]) -> Iterator[Finding]:
    if status["relay_restarts"]:
        yield problem(
            "proxy", f"relays were replaced {status['relay_restarts']} times", "see its log for why they died"
        )
    errors: dict[str, int] = {}
    for stats in relays:
        for kind, number in stats["errors"].items():
            errors[kind] = errors.get(kind, 0) + number
    if errors:
        told = ", ".join(f"{kind} {number}" for kind, number in sorted(errors.items()))
        yield warning("proxy", f"exchanges that failed: {told}", "see what the upstream says above, and its log")
    for name, words in _LOST.items():
        number = sum(stats["channel"][name] for stats in relays)
        if number:
            yield warning("observer", f"{number} {words}", "give it a core of its own, or more of channel_bytes")


def _observer(observer: dict[str, Any]) -> Iterator[Finding]:
    stats = observer["stats"]
    if stats is None:
        yield note("observer", "nothing is observed (--no-observe, or it is about to start)")
        return
    if observer["restarts"]:
        yield warning(
            "observer", f"it was replaced {observer['restarts']} times", "see the proxy's log for why it died"
        )
    kept = stats.get("store")
    if kept and kept["failing"]:
        yield problem("observer", f"spans are not written: {kept['failing']}", "see the findings on the store")
    elif kept and kept["spans_lost"]:
        yield warning("observer", f"{kept['spans_lost']} spans could not be written", "see the proxy's log")
    sent = stats.get("export")
    if sent and sent["failing"]:
        yield problem("observer", f"spans are not exported: {sent['failing']}", "see the findings on the export")
    elif sent and sent["spans_dropped"]:
        yield warning(
            "observer",
            f"{sent['spans_dropped']} spans were dropped from the export, because the collector is too slow",
            "give the collector more, or export a part of the trajectories (OTEL_TRACES_SAMPLER)",
        )
    if stats.get("problems"):
        told = ", ".join(f"{name} {number}" for name, number in sorted(stats["problems"].items()))
        yield note("observer", f"of some calls not all could be read: {told}")
