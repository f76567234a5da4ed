"""The command `doctor`."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from otel_agentperf.cli.common import parse_address
from otel_agentperf.cli.doctor import clients, endpoint, here, running
from otel_agentperf.cli.doctor.export import export
from otel_agentperf.cli.doctor.findings import Finding, Verdict, note, problem, render
from otel_agentperf.cli.doctor.traffic import recorded
from otel_agentperf.cli.doctor.trial import Dialect, trial
from otel_agentperf.cli.explain import print_text
from otel_agentperf.cli.options import Admin, Listen, ProxyStore, parse_time
from otel_agentperf.cli.output import destination
from otel_agentperf.cli.report import ReportFormat
from otel_agentperf.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from otel_agentperf_proxy.config import ProxyConfig

__all__ = ["register"]

_UNKNOWN = "http://upstream.invalid"
"""Stands for an upstream that is not known, so that the other settings can be looked at."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(
    upstream: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The inference endpoint. [default: that of the proxy that runs here]"),
    ] = None,
    listen: Listen = None,
    admin: Admin = None,
    store: ProxyStore = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where spans shall go. [default: the OTEL_EXPORTER_OTLP_* variables]"),
    ] = None,
    otlp_protocol: Annotated[
        str | None, typer.Option(metavar="http/protobuf|grpc", help="[default: as for `proxy`]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="OTEL_AGENTPERF_CONFIG", help="The proxy's configuration file."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Make one short streamed call to this model, through a proxy of its own. It may cost."
        ),
    ] = None,
    dialect: Annotated[Dialect, typer.Option(help="Wire format of that call.")] = Dialect.CHAT,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that holds the API key of the endpoint.")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Look at calls recorded since TIME, as for the reading commands.")
    ] = "1d",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings make the exit status 1, too.")] = False,
    form: Annotated[ReportFormat, typer.Option("--format", "-f", help="For people, or a JSON array.")] = (
        ReportFormat.TABLE
    ),
) -> None:
    """Find what commonly goes wrong, and say what to do about it.

    Looks at versions and limits, the settings of the proxy and the addresses it listens on, the inference endpoint, the
    store, the OTLP endpoint, the settings of clients in this environment and directory, the proxy that runs, and the
    calls that it recorded. Changes nothing. The exit status is 1 when there is a problem.

    Examples:

        otel-agentperf doctor --upstream http://127.0.0.1:8000

        otel-agentperf doctor --upstream http://127.0.0.1:8000 --model simulated --format json
    """
    told = {
        "upstream": upstream,
        "listen": listen,
        "admin": admin,
        "store": store,
        "otlp_endpoint": otlp_endpoint,
        "otlp_protocol": otlp_protocol,
    }
    options = {name: value for name, value in told.items() if value is not None}
    key = endpoint.api_key(api_key_env)
    moment = parse_time(since, datetime.now(UTC), "--since")
    findings = list(_findings(config, options, model=model, dialect=dialect, key=key, since=moment))
    if form is ReportFormat.JSON:
        with destination(None) as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(findings)) + b"\n")
    else:
        print_text(lambda console: render(findings, console), None)
    bad = (Verdict.PROBLEM, Verdict.WARNING) if strict else (Verdict.PROBLEM,)
    if any(finding.verdict in bad for finding in findings):
        raise typer.Exit(ExitCode.NEGATIVE)


def _findings(
    file: Path | None,
    options: dict[str, Any],
    *,
    model: str | None,
    dialect: Dialect,
    key: str | None,
    since: datetime,
) -> Iterator[Finding]:
    yield from here.versions()
    yield from here.limits()
    yield from here.settings()
    try:
        config, known = _configuration(file, options)
        listen, admin = parse_address(config.listen), parse_address(config.admin)
    except UsageError as exc:
        yield problem("settings", str(exc), "mend that; `otel-agentperf proxy --check-config` checks it by itself")
        return
    status = running.find(*admin)
    if status is not None:
        yield from running.at_work(status, config.listen)
    else:
        yield from _to_start(config.listen, listen, admin)
    # Without an upstream of our own we look at that of the proxy that runs.
    asked = endpoint.upstreams_of(config) if known else ()
    if not asked and status is not None:
        urls = filter(None, (status["upstream"], *status["upstreams"]))
        asked = tuple(endpoint.Upstream(url, config.upstream_ca, config.upstream_insecure) for url in urls)
    if not asked:
        yield note("upstream", "no inference endpoint is named", "name it with --upstream URL")
    for one in asked:
        yield from endpoint.upstream(one, {"listen": listen, "admin": admin}, key=key, model=model)
    yield from export(config)
    directory = _store(config, status)
    if directory is not None:
        yield from here.store(directory)
    yield from clients.clients(os.environ, Path.home(), Path.cwd(), listen)
    if directory is not None and directory.is_dir():
        yield from recorded(str(directory), since)
    if model is not None and asked:
        yield from trial(asked[0], model, dialect, key)


def _configuration(file: Path | None, options: dict[str, Any]) -> "tuple[ProxyConfig, bool]":
    """The proxy's configuration, and whether it names an upstream.

    Raises:
        UsageError: a value cannot work.
    """
    from otel_agentperf_proxy.config import load

    try:
        return load(file, options, os.environ), True
    except UsageError:
        if "upstream" in options:
            raise
        # It may lack nothing but the upstream, which the proxy that runs knows.
        return load(file, {**options, "upstream": _UNKNOWN}, os.environ), False


def _to_start(text: str, listen: tuple[str, int], admin: tuple[str, int]) -> Iterator[Finding]:
    yield note(
        "proxy",
        f"no proxy runs with its control routes on {admin[0]}:{admin[1]}",
        "start it with `otel-agentperf proxy --upstream URL`",
    )
    yield from here.listening("listen", *listen)
    if listen == admin and listen[1]:
        yield problem(
            "admin", f"{text} is both the proxied port and the control routes'", "give one of them another port"
        )
    else:
        yield from here.listening("admin", *admin)


def _store(config: "ProxyConfig", status: dict[str, Any] | None) -> Path | None:
    """The store of the proxy that runs, where it is told as an absolute path, else the one that is set."""
    if status is not None and status["store"] is not None and Path(status["store"]).is_absolute():
        return Path(status["store"])
    return None if config.store is None else Path(config.store)
