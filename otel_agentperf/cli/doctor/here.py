"""This machine: versions, limits, settings, the store, and the addresses to listen on."""

import errno
import os
import platform
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from otel_agentperf._version import __version__
from otel_agentperf.cli.doctor.findings import Finding, note, ok, problem, warning
from otel_agentperf.errors import UnavailableError

__all__ = ["ancestor", "limits", "listening", "settings", "store", "versions"]

FILES: Final = 4096
"""Open files that a proxy with hundreds of streams, or a replay with as many agents, can need."""

LITTLE_SPACE: Final = 1 << 30
NO_SPACE: Final = 64 << 20


def versions() -> Iterator[Finding]:
    """What runs here."""
    import duckdb
    import opentelemetry.sdk.version

    yield ok(
        "versions",
        f"otel-agentperf {__version__}, Python {platform.python_version()}, DuckDB {duckdb.__version__}, "
        f"OpenTelemetry {opentelemetry.sdk.version.__version__}, {platform.system()} {platform.release()}",
    )


def limits() -> Iterator[Finding]:
    """How many connections a process may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "any number of" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    if hard != resource.RLIM_INFINITY and hard < FILES:
        yield warning(
            "limits",
            f"a process may hold {hard:,} files and connections; an agent's call needs two",
            f"raise the limit (ulimit -Hn, LimitNOFILE= of a unit) to {FILES:,} or more",
        )
    else:
        yield ok("limits", f"a process may hold {soft:,} files and connections, and raise that to {most}")


def settings() -> Iterator[Finding]:
    """Variables that look like settings and are none."""
    from otel_agentperf_proxy.config import unknown_variables

    for name in unknown_variables(os.environ):
        yield warning("settings", f"{name} is no setting", "see `otel-agentperf proxy --help` for their names")


def store(directory: Path) -> Iterator[Finding]:
    """Whether a proxy could write the store. Makes nothing that was not there."""
    from otel_agentperf_proxy.store import INFO

    elsewhere = "name another one with --store DIR, or mend the rights"
    place = ancestor(directory)
    if not place.is_dir():
        yield problem("store", f"{place} is no directory", "name another store with --store DIR")
        return
    if directory.is_dir():
        try:
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError as exc:
            yield problem("store", f"{directory} cannot be written: {_reason(exc)}", elsewhere)
            return
        if (directory / INFO).exists():
            yield from _known(directory / INFO)
        else:
            yield note("store", f"{directory} holds no spans yet")
    elif os.access(place, os.W_OK | os.X_OK):
        yield note("store", f"{directory} is not there yet; the proxy makes it")
    else:
        yield problem("store", f"{directory} cannot be made: {place} cannot be written", elsewhere)
        return
    yield from _space(place)


def _known(path: Path) -> Iterator[Finding]:
    from otel_agentperf_proxy.store import FORMAT

    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, object]).get("format")
    except OSError as exc:
        yield problem("store", f"{path} cannot be read: {_reason(exc)}", "run as the user who owns it")
        return
    except msgspec.DecodeError as exc:
        yield problem("store", f"{path} is damaged ({exc})", "remove that file; the spans beside it stay readable")
        return
    if found != FORMAT:
        yield problem("store", f"{path.parent} is of format {found}, not {FORMAT}", "name another one with --store DIR")
        return
    yield ok("store", f"{path.parent} can be written")


def _space(place: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(place).free
    words = f"{free / 1e9:.1f} GB are free for the store"
    advice = "make room, or bound the store with --store-max-bytes and --store-max-age"
    if free < NO_SPACE:
        yield problem("space", words, advice)
    elif free < LITTLE_SPACE:
        yield warning("space", words, advice)
    else:
        yield ok("space", words)


def listening(name: str, host: str, port: int) -> Iterator[Finding]:
    """Whether a proxy could listen on an address.

    Args:
        name: the option that sets it, without its dashes.
    """
    from otel_agentperf.processes import listen

    where = f"{host}:{port}"
    try:
        listen(host, port).close()
    except UnavailableError as exc:
        code = getattr(exc.__cause__, "errno", None)
        if code == errno.EADDRINUSE:
            yield problem(
                name,
                f"{where} is taken by another program",
                f"see which with `ss -ltnp sport = :{port}` and end it, or choose another with --{name} HOST:PORT",
            )
        elif code == errno.EADDRNOTAVAIL or (code is not None and code < 0):
            yield problem(
                name,
                f"{where} is no address of this machine",
                f"--{name} 0.0.0.0:{port} listens on all addresses, 127.0.0.1:{port} on this machine's own",
            )
        elif code == errno.EACCES:
            yield problem(name, f"only root may listen on port {port}", "choose a port from 1024 on")
        else:
            yield problem(name, f"cannot listen on {where}: {exc}", f"choose another with --{name} HOST:PORT")
    else:
        yield ok(name, f"{where} is free")


def ancestor(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
