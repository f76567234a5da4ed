"""What a proxy can be told: by options, by the environment, by a TOML file, or by an application that mounts it."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from otel_agentperf.errors import UsageError
from otel_agentperf.http1 import Origin

MIB = 1024 * 1024

ENVIRONMENT_PREFIX: Final = "OTEL_AGENTPERF_"
"""Before the name of a key, in capitals: the variable that sets it."""

_OTHER_VARIABLES: Final = tuple(ENVIRONMENT_PREFIX + name for name in ("CONFIG", "MEMORY", "PEERS", "SOURCE_"))
"""What the environment tells other parts of the program, and the tests."""

_LISTS: Final = frozenset(("export_keep", "slo"))
"""Keys that hold several words."""

_MAY_BE_ZERO: Final = frozenset(("drain_s", "observed_body_bytes"))


class UpstreamConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An upstream for some of the requests; a table of `[[upstreams]]`."""

    url: str
    """As `upstream`."""
    host: str | None = None
    """Only requests for this host: their Host field, without its port."""
    path: str | None = None
    """Only requests for this path, or for paths below it: `/a` is for `/a` and `/a/b`, not for `/ab`."""
    strip_path: bool = False
    """Take `path` off before the request goes on."""
    ca: str | None = None
    """As `upstream_ca`."""
    insecure: bool = False
    """As `upstream_insecure`."""


class ProxyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of one proxy; the field names are the keys of the TOML file."""

    upstream: str = ""
    """Base URL of the inference endpoint. Its path, if any, is put before the client's. May be left out when there are
    `upstreams`; requests that none of these takes are then refused."""
    upstreams: tuple[UpstreamConfig, ...] = ()
    """Further endpoints for some of the hosts or paths; the first that takes a request gets it, else `upstream`."""
    upstream_ca: str | None = None
    """File of the certificates to trust (PEM) instead of the platform's, where the upstream is https."""
    upstream_insecure: bool = False
    """Trust any certificate of the upstream."""
    listen: str = "127.0.0.1:4000"
    """Address of the proxied port; port 0 takes a free one."""
    admin: str = "127.0.0.1:4001"
    """Address of the control routes."""
    tls_cert: str | None = None
    """File of the proxied port's certificate and its chain (PEM): clients then speak https."""
    tls_key: str | None = None
    """File of its key (PEM), where it is not in the same file."""
    workers: int = 1
    """Relay processes sharing the listening socket."""
    store: str | None = "agentperf-store"
    """Directory of the embedded trace store; None, or an empty name in a file, keeps none."""
    store_max_bytes: int | None = None
    """Oldest sealed segments are deleted above this; None keeps all."""
    store_max_age_s: float | None = None
    """Sealed segments are deleted after this; None keeps all."""
    store_rotate_bytes: int = 64 * MIB
    """A segment is sealed and compressed at this size."""
    store_rotate_s: float = 3600.0
    """A segment is sealed and compressed at this age."""
    flush_interval_s: float = 1.0
    """Longest time that a finished span stays in memory only."""
    otlp_endpoint: str | None = None
    """Where spans are exported to; else the standard OTEL_EXPORTER_OTLP_* variables decide."""
    otlp_protocol: Literal["http/protobuf", "grpc"] | None = None
    """Protocol of the export; else OTEL_EXPORTER_OTLP_PROTOCOL, else guessed from the port (4317 is gRPC)."""
    export_keep: tuple[Literal["error", "slo_miss"], ...] = ()
    """Export a run that the sampler leaves out all the same, and whole, when a call in it fails or breaks off
    (`error`), or misses a tier of `slo` (`slo_miss`). The spans of unsampled runs are held until the run ends."""
    export_keep_slower_s: float | None = None
    """Export runs that took at least so long all the same; None for none."""
    otlp_logs: bool = False
    """Export the proxy's own log by OTLP too, and a record for each exchange that failed; so does
    OTEL_LOGS_EXPORTER=otlp."""
    metric_names: Literal["both", "new", "old"] | None = None
    """Generation of the GenAI conventions that metrics are named by; None: `new` where OTEL_SEMCONV_STABILITY_OPT_IN
    says gen_ai_latest_experimental, else `both`."""
    slo: tuple[str, ...] = ()
    """SLO tiers that turns are judged by for the metrics, as `aa-agentperf:gpt-oss-120b#1` or `targets.toml:chat`. A
    tier judges every model; the tiers of a whole policy (`aa-agentperf`) the models they were made for."""
    capacity: int | None = None
    """Agents that the deployment holds, for the metric of its headroom."""
    capture: Literal["none", "shape", "content"] = "none"
    """What of prompts and completions goes into the spans: nothing, for each message its role, size and salted hash, or
    all of it."""
    link_keys: bool = True
    """Give call spans salted hashes (`agentperf.link.keys`) by which the calls of several proxies, or of a proxy before
    and after a restart, are joined into trajectories."""
    salt_file: str | None = None
    """File with the key of all hashes, at least 32 hex digits; one for all proxies of a fleet. Else the store's own."""
    provider: str | None = None
    """Value of `gen_ai.provider.name`; else the dialect's."""
    ask_usage: bool = False
    """Ask servers for the token counts of streamed chat completions (`stream_options.include_usage`) where the client
    does not speak of them, and hide the chunk that brings them. Such requests are held until they are complete."""
    log_format: Literal["text", "json"] = "text"
    """Of the proxy's own log on standard error."""
    access_log: Literal["none", "json"] = "none"
    """`json`: a line on standard error for each exchange that ended. No queries, no credentials."""
    preserve_host: bool = False
    """Forward the client's Host header instead of the upstream's authority."""
    connect_timeout_s: float = 10.0
    """Limit for connecting to the upstream."""
    response_timeout_s: float | None = None
    """Limit from the last byte of a request to the first of its response; None: a model may think as long as it
    likes."""
    silence_timeout_s: float | None = None
    """Limit for a pause within a response; None for none."""
    max_body_bytes: int | None = None
    """Longer request bodies are refused (413); None takes all."""
    max_head_bytes: int = 64 * 1024
    """Longer request heads are refused (431)."""
    max_connections: int | None = None
    """Client connections of one relay; more are refused (503). None takes all."""
    head_timeout_s: float = 60.0
    """A client that has not sent a request's head within this is refused (408)."""
    idle_limit_s: float = 600.0
    """A run without activity for this long is closed as abandoned."""
    drain_s: float = 30.0
    """After SIGTERM, how long open exchanges may go on."""
    observed_body_bytes: int = 32 * MIB
    """Bytes of one body that the observer looks at; the rest passes and is counted."""
    channel_bytes: int = 64 * MIB
    """Bytes that may wait for the observer in one relay; above it, observation is dropped and counted."""
    observe: bool = True
    """Without, bytes pass and nothing is observed: no spans, no trace context added. Tells the cost of observing."""
    salt: str = ""
    """Hex key of all hashes; set from `salt_file`, else from the store."""

    def check(self) -> None:
        """Raise UsageError for values that cannot work."""
        if not self.upstream and not self.upstreams:
            raise UsageError("no upstream: give --upstream URL, for example --upstream http://127.0.0.1:8000")
        for url in (self.upstream, *(table.url for table in self.upstreams)):
            if url:
                Origin.parse(url)
        for table in self.upstreams:
            if table.path is not None and not table.path.startswith("/"):
                raise UsageError(f"the path of an upstream begins with a slash, unlike {table.path!r}")
            if table.strip_path and table.path is None:
                raise UsageError(f"strip_path without path: there is nothing to take off for {table.url}")
        if self.listen == self.admin and not self.listen.endswith(":0"):
            raise UsageError(f"listen and admin are both {self.listen}: control routes have an address of their own")
        if self.slo:
            from otel_agentperf_proxy.metrics.slo import judges

            judges(self.slo)
        if "slo_miss" in self.export_keep and not self.slo:
            raise UsageError("export_keep slo_miss needs slo: name the tiers to miss")
        if self.access_log != "none" and not self.observe:
            raise UsageError("access_log needs observe: the observer writes it")
        if self.tls_key and not self.tls_cert:
            raise UsageError("tls_key without tls_cert")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            zero_too = name in _MAY_BE_ZERO
            if not (0 < value < math.inf or (value == 0 and zero_too)):
                raise UsageError(f"{name} must be {'zero or more' if zero_too else 'positive'}, not {value}")
        try:
            bytes.fromhex(self.salt)
        except ValueError as exc:
            raise UsageError("salt must be hex digits") from exc


def load(path: Path | None, options: dict[str, Any], environment: Mapping[str, str] | None = None) -> ProxyConfig:
    """A configuration from options, else from the environment, else from a TOML file, else the defaults.

    Raises:
        UsageError: the file cannot be read, or a value has the wrong type, or a name is unknown.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise UsageError(f"{path} is not TOML: {exc}") from exc
        values = {name.replace("-", "_"): value for name, value in values.items()}
        if isinstance(tables := values.get("upstreams"), list):
            values["upstreams"] = [
                {name.replace("-", "_"): value for name, value in table.items()} if isinstance(table, dict) else table
                for table in tables
            ]
    values.update(_from_environment(environment or {}))
    values.update(options)
    if values.get("store") == "":
        values["store"] = None
    try:
        config = msgspec.convert(values, ProxyConfig)
    except msgspec.ValidationError as exc:
        raise UsageError(f"{path or 'options'}: {exc}") from exc
    config.check()
    return config


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none, such as misspelt ones."""
    known = {ENVIRONMENT_PREFIX + name.upper() for name in ProxyConfig.__struct_fields__}
    return sorted(
        name
        for name in environment
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known and not name.startswith(_OTHER_VARIABLES)
    )


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The keys that variables set; an empty variable sets none. `upstreams` is JSON, lists of words have commas."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(ProxyConfig):
        name = ENVIRONMENT_PREFIX + field.name.upper()
        text = environment.get(name)
        if not text:
            continue
        try:
            if field.name in _LISTS:
                values[field.name] = tuple([name.strip() for name in text.split(",") if name.strip()])
            elif field.name == "upstreams":
                values[field.name] = msgspec.to_builtins(msgspec.json.decode(text, type=field.type))
            else:
                values[field.name] = msgspec.convert(text, field.type, strict=False)
        except (msgspec.ValidationError, msgspec.DecodeError) as exc:
            raise UsageError(f"{name}: {exc}") from exc
    return values
