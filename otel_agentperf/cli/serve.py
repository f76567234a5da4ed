"""`proxy`: the transparent proxy with its observer, store and control routes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from otel_agentperf.cli.common import configure_logging, console, parse_address
from otel_agentperf.cli.options import Admin, Listen, ProxyStore

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
    listen: Listen = None,
    admin: Admin = None,
    store: ProxyStore = None,
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
    otlp_logs: Annotated[
        bool,
        typer.Option("--otlp-logs", help="Export the proxy's own log by OTLP, too, and a record of each failed call."),
    ] = False,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="POLICY:TIER", help="Judge turns by this SLO tier, for the metrics; can be repeated."),
    ] = None,
    export_keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="error|slo_miss",
            help="Export a run that the sampler leaves out all the same, whole, when a call in it fails, or misses an "
            "SLO tier; can be repeated.",
        ),
    ] = None,
    export_keep_slower: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Export runs that took so long all the same.")
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(metavar="AGENTS", help="Agents that the deployment holds, for the metric of its headroom."),
    ] = None,
    metric_names: Annotated[
        str | None,
        typer.Option(
            metavar="both|new|old",
            help="Generation of the GenAI conventions that metrics are named by. [default: by "
            "OTEL_SEMCONV_STABILITY_OPT_IN, else both]",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Relay processes. [default: 1]")] = None,
    capture: Annotated[
        str | None,
        typer.Option(
            metavar="none|shape|content",
            help="What of the prompts goes into the spans: nothing; roles, sizes and salted hashes of messages, enough "
            "to replay them without their words; or prompts and completions. [default: none]",
        ),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="gen_ai.provider.name of the spans. [default: by dialect]")
    ] = None,
    salt_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Key of all hashes, hex digits: one for all proxies of a fleet, so that their calls are joined into "
            "trajectories. [default: the store's own]",
        ),
    ] = None,
    ask_usage: Annotated[
        bool,
        typer.Option("--ask-usage", help="Ask servers for token counts where clients do not, and hide the answer."),
    ] = False,
    log_format: Annotated[
        str | None, typer.Option(metavar="text|json", help="Of the proxy's own log on standard error. [default: text]")
    ] = None,
    access_log: Annotated[
        str | None, typer.Option(metavar="json|none", help="Log each exchange on standard error. [default: none]")
    ] = None,
    preserve_host: Annotated[
        bool, typer.Option("--preserve-host", help="Forward the client's Host header instead of the upstream's.")
    ] = False,
    connect_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Limit for connecting to the upstream. [default: 10]")
    ] = None,
    response_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Limit for the first byte of a response. [default: none]")
    ] = None,
    silence_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Limit for a pause in a response. [default: none]")
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse longer request bodies. [default: none]")
    ] = None,
    max_head_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse longer request heads. [default: 65536]")
    ] = None,
    max_connections: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse more client connections per worker. [default: none]")
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Certificate and chain (PEM): clients speak https.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Its key, if in another file.")] = None,
    upstream_ca: Annotated[
        str | None, typer.Option(metavar="FILE", help="Trust these certificates (PEM) of an https upstream.")
    ] = None,
    upstream_insecure: Annotated[
        bool, typer.Option("--upstream-insecure", help="Trust any certificate of the upstream.")
    ] = False,
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
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="OTEL_AGENTPERF_CONFIG",
            help="TOML file with these settings, and upstreams by host or path. Options win over variables "
            "(OTEL_AGENTPERF_WORKERS and so on), these over the file.",
        ),
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check the configuration, print it, and end.")
    ] = False,
) -> None:
    import os
    import re

    import msgspec
    import uvloop

    from otel_agentperf.logs import use_format
    from otel_agentperf.processes import listen as listen_on
    from otel_agentperf_proxy.config import load, unknown_variables
    from otel_agentperf_proxy.listener import server_tls
    from otel_agentperf_proxy.observing import read_salt
    from otel_agentperf_proxy.otlp import Signal, find_target
    from otel_agentperf_proxy.routes import Routes
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
        "export_keep_slower_s": export_keep_slower,
        "capacity": capacity,
        "metric_names": metric_names,
        "workers": workers,
        "capture": capture,
        "provider": provider,
        "salt_file": salt_file,
        "log_format": log_format,
        "access_log": access_log,
        "connect_timeout_s": connect_timeout,
        "response_timeout_s": response_timeout,
        "silence_timeout_s": silence_timeout,
        "max_body_bytes": max_body_bytes,
        "max_head_bytes": max_head_bytes,
        "max_connections": max_connections,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "upstream_ca": upstream_ca,
        "idle_limit_s": idle_limit,
        "drain_s": drain,
    }
    options = {name: value for name, value in told.items() if value is not None}
    if no_store:
        options["store"] = None
    if otlp_logs:
        options["otlp_logs"] = True
    if slo:
        options["slo"] = slo
    if export_keep:
        options["export_keep"] = export_keep
    if ask_usage:
        options["ask_usage"] = True
    if preserve_host:
        options["preserve_host"] = True
    if upstream_insecure:
        options["upstream_insecure"] = True
    if no_observe:
        options["observe"] = False
    effective = load(config, options, os.environ)
    for signal in Signal:
        find_target(effective, signal)
    # What is in files is found out here, not by the relays one by one.
    Routes(effective)
    server_tls(effective)
    if effective.salt_file:
        read_salt(Path(effective.salt_file))
    addresses = [parse_address(address) for address in (effective.listen, effective.admin)]
    if check_config:
        for name in unknown_variables(os.environ):
            console.print(f"{name} is no setting")
        shown = {name: value for name, value in msgspec.to_builtins(effective).items() if name != "salt"}
        if effective.otlp_endpoint is not None:
            shown["otlp_endpoint"] = re.sub(r"//[^/@]*@", "//...@", effective.otlp_endpoint)
        typer.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return
    configure_logging()
    use_format(effective.log_format)
    uvloop.run(run(effective, [listen_on(*address) for address in addresses]))
    console.print("proxy: ended")
