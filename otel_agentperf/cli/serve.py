"""`proxy`: the transparent proxy with its observer, store and control routes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from otel_agentperf.cli.common import configure_logging, console, parse_address

_EXAMPLE = """
Put a transparent proxy in front of an inference endpoint and record what its agents experience.

Clients change nothing but the base URL. Bytes pass unchanged and at once; each LLM call becomes an OpenTelemetry span,
grouped into agent runs and trajectories. Spans go to the store, and by OTLP to --otlp-endpoint or wherever the
OTEL_EXPORTER_OTLP_* variables point.

Example:

    otel-agentperf proxy --upstream http://127.0.0.1:8000

then point agents to http://127.0.0.1:4000 and read the store with `otel-agentperf report`.
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(help=_EXAMPLE)(proxy)


def proxy(
    upstream: Annotated[
        str | None, typer.Option(help="Base URL of the inference endpoint; its path is put before the client's.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Proxied port. [default: 127.0.0.1:4000]")
    ] = None,
    admin: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Control routes. [default: 127.0.0.1:4001]")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="DIR", envvar="OTEL_AGENTPERF_STORE", help="Trace store. [default: agentperf-store]"),
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep no store; spans only go out by OTLP.")] = False,
    store_max_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Delete the oldest sealed segments above this size.")
    ] = None,
    store_max_age: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Delete sealed segments after this.")
    ] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Export spans by OTLP, also. [default: the OTEL_EXPORTER_OTLP_* variables]"),
    ] = None,
    otlp_protocol: Annotated[
        str | None,
        typer.Option(metavar="http/protobuf|grpc", help="[default: by variable, else by port: 4317 is grpc]"),
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Relay processes. [default: 1]")] = None,
    capture: Annotated[
        str | None,
        typer.Option(metavar="none|content", help="Whether prompts and completions go into the spans. [default: none]"),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="gen_ai.provider.name of the spans. [default: by dialect]")
    ] = None,
    ask_usage: Annotated[
        bool,
        typer.Option("--ask-usage", help="Ask servers for token counts where clients do not, and hide the answer."),
    ] = False,
    access_log: Annotated[
        str | None, typer.Option(metavar="json|none", help="Log each exchange on standard error. [default: none]")
    ] = None,
    preserve_host: Annotated[
        bool, typer.Option("--preserve-host", help="Forward the client's Host header instead of the upstream's.")
    ] = False,
    connect_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Limit for connecting to the upstream. [default: 10]")
    ] = None,
    idle_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="A run without activity this long is abandoned. [default: 600]"),
    ] = None,
    drain: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Time for open exchanges after SIGTERM. [default: 30]")
    ] = None,
    no_observe: Annotated[
        bool, typer.Option("--no-observe", help="Only pass bytes: no spans. Tells what observing costs.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file with these settings; options win over it.")
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check the configuration, print it, and end.")
    ] = False,
) -> None:
    import msgspec
    import uvloop

    from otel_agentperf.processes import listen as listen_on
    from otel_agentperf_proxy.config import load
    from otel_agentperf_proxy.export import find_target
    from otel_agentperf_proxy.server import run

    told: dict[str, Any] = {
        "upstream": upstream,
        "listen": listen,
        "admin": admin,
        "store": store,
        "store_max_bytes": store_max_bytes,
        "store_max_age_s": store_max_age,
        "otlp_endpoint": otlp_endpoint,
        "otlp_protocol": otlp_protocol,
        "workers": workers,
        "capture": capture,
        "provider": provider,
        "access_log": access_log,
        "connect_timeout_s": connect_timeout,
        "idle_limit_s": idle_limit,
        "drain_s": drain,
    }
    options = {name: value for name, value in told.items() if value is not None}
    if no_store:
        options["store"] = None
    if ask_usage:
        options["ask_usage"] = True
    if preserve_host:
        options["preserve_host"] = True
    if no_observe:
        options["observe"] = False
    effective = load(config, options)
    find_target(effective)
    addresses = [parse_address(address) for address in (effective.listen, effective.admin)]
    if check_config:
        shown = {name: value for name, value in msgspec.to_builtins(effective).items() if name != "salt"}
        typer.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return
    configure_logging()
    uvloop.run(run(effective, [listen_on(*address) for address in addresses]))
    console.print("proxy: ended")
