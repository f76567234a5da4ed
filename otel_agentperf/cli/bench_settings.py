"""From the options of `replay` to the settings of the player."""

import json
import os
from typing import TYPE_CHECKING, Any

from otel_agentperf.cli.bench_options import Endpoint, Load, Targets, Traces, Traffic
from otel_agentperf.errors import UsageError

if TYPE_CHECKING:
    from otel_agentperf.replay import Manifest, ReplaySettings

__all__ = ["settings_of"]


def settings_of(
    endpoint: Endpoint, load: Load, targets: Targets, traffic: Traffic, traces: Traces, earlier: "Manifest | None"
) -> "ReplaySettings":
    """The settings.

    Args:
        earlier: the record of the benchmark to go on with.

    Raises:
        UsageError: an option has no meaning.
    """
    from otel_agentperf import replay as player

    rules = player.preset(load.preset) if load.preset is not None else None
    seconds = _first(load.seconds, rules.seconds if rules else None)
    trajectories = _first(load.trajectories, rules.trajectories if rules else None)
    per_agent = _first(load.trajectories_per_agent, rules.trajectories_per_agent if rules else None) or 0.0
    if seconds is None and trajectories is None and not per_agent:
        seconds = 60.0
    if targets.search and load.agents is not None:
        raise UsageError("--agents names the levels and --search finds them: give one of the two")
    if earlier is not None and traces.benchmark_id is not None:
        raise UsageError("--resume goes on with the benchmark of the record; leave out --benchmark-id")
    return player.ReplaySettings(
        endpoint=endpoint.endpoint,
        model=endpoint.model,
        levels=_levels(load.agents or "1"),
        dialect=player.DialectName(endpoint.dialect),
        seconds=seconds,
        trajectories=trajectories,
        trajectories_per_agent=per_agent,
        window_limit_s=_first(load.window_limit, rules.window_limit_s if rules else None),
        warmup_s=_first(load.warmup, rules.warmup_s if rules else None, 10.0) or 0.0,
        drain_limit_s=load.drain_limit,
        output=player.OutputPolicy(traffic.output_tokens),
        tool_delays=player.ToolDelays(
            sampled=traffic.sample_tool_delays,
            scale=traffic.tool_delay_scale,
            cap_s=traffic.tool_delay_cap,
            fixed_s=traffic.tool_delay,
        ),
        cache_prefix=player.Placement(traffic.cache_prefix),
        seed=earlier.seed if earlier is not None else load.seed,
        generators=load.generators,
        max_lateness_s=targets.max_lateness,
        benchmark_id=earlier.benchmark_id if earlier is not None else traces.benchmark_id or player.new_benchmark_id(),
        resumed=earlier.settings["resumed"] + 1 if earlier is not None else 0,
        max_retries=endpoint.retries,
        request_timeout_s=endpoint.request_timeout,
        path=endpoint.path,
        api_key=_api_key(endpoint.api_key_env),
        headers=tuple(_header(text) for text in endpoint.header or ()),
        extra_body=_extra_body(traffic.body),
    )


def _first(*values: Any) -> Any:
    """The first value that is given."""
    return next((value for value in values if value is not None), None)


def _levels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as exc:
        raise UsageError(f"not a list of numbers of agents: {text!r}; write for example --agents 1,4,8") from exc


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment variable {variable} is not set; it should hold the API key")
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            f"the environment variable {variable} holds no API key: it has characters that no header takes"
        )
    return key


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UsageError("a header is written as 'NAME: VALUE'")
    return name.strip(), value.strip()


def _extra_body(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        body = json.loads(text)
    except ValueError as exc:
        raise UsageError(f"--body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise UsageError("--body is not a JSON object; write for example '{\"temperature\": 0}'")
    return body
