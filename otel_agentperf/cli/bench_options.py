"""The options of `replay`, in groups."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

__all__ = [
    "CachePrefix",
    "Dialect",
    "Endpoint",
    "Load",
    "OutputTokens",
    "PresetName",
    "ReplayFormat",
    "Source",
    "Targets",
    "Traces",
    "Traffic",
]

_LOAD: Final = "Load"
_TARGETS: Final = "Search and verdicts"
_TRAFFIC: Final = "What agents send"
_ENDPOINT: Final = "Endpoint"
_TRACES: Final = "Traces and results"


class ReplayFormat(StrEnum):
    """Ways to write the summary."""

    TABLE = "table"
    JSON = "json"


class Dialect(StrEnum):
    """Wire formats; the values of `replay.DialectName`, which is not imported for a help page."""

    CHAT = "chat"
    MESSAGES = "messages"


class OutputTokens(StrEnum):
    """The values of `replay.OutputPolicy`."""

    EXACT = "exact"
    RECORDED = "recorded"
    NATURAL = "natural"


class CachePrefix(StrEnum):
    """The values of `replay.Placement`."""

    SYSTEM = "system"
    USER = "user"
    NONE = "none"


class PresetName(StrEnum):
    """The names of `replay.PRESETS`."""

    AGENTPERF = "agentperf"
    QUICK = "quick"
    SMOKE = "smoke"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Whom to ask."""

    endpoint: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Base URL of the inference endpoint, with or without `/v1`.", rich_help_panel=_ENDPOINT
        ),
    ]
    model: Annotated[str, typer.Option(metavar="NAME", help="The model to ask for.", rich_help_panel=_ENDPOINT)]
    dialect: Annotated[
        Dialect,
        typer.Option(help="OpenAI chat completions or Anthropic messages.", rich_help_panel=_ENDPOINT),
    ] = Dialect.CHAT
    path: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Path of the requests, where it is not the dialect's.", rich_help_panel=_ENDPOINT
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Environment variable that holds the API key, for example `OPENAI_API_KEY`.",
            rich_help_panel=_ENDPOINT,
        ),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="A further header field (repeatable).", rich_help_panel=_ENDPOINT),
    ] = None
    retries: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Further attempts after a 408, 409, 425, 429, 5xx, a lost connection or a broken answer, with "
            "backoff; then the trajectory is given up.",
            rich_help_panel=_ENDPOINT,
        ),
    ] = 2
    request_timeout: Annotated[
        float,
        typer.Option(metavar="S", help="An answer that takes longer has failed.", rich_help_panel=_ENDPOINT),
    ] = 600.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many agents, and for how long."""

    agents: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]",
            help="Concurrent agents; one level after the other. Default: 1.",
            show_default=False,
            rich_help_panel=_LOAD,
        ),
    ] = None
    preset: Annotated[
        PresetName | None,
        typer.Option(
            help="Rules of a level: `agentperf`, those of the benchmark (10 minutes and 30 trajectories, 3 per agent); "
            "`quick` (a minute and 10 trajectories, 1 per agent) and `smoke` (seconds) are not comparable with it. "
            "Options of this group win over it.",
            show_default=False,
            rich_help_panel=_LOAD,
        ),
    ] = None
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Least length of a level's steady window. Default: 60, or none with `--trajectories`.",
            show_default=False,
            rich_help_panel=_LOAD,
        ),
    ] = None
    trajectories: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Least number of trajectories completed in a level's steady window. With `--seconds`, both must be "
            "met.",
            rich_help_panel=_LOAD,
        ),
    ] = None
    trajectories_per_agent: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0,
            help="The same for each agent of the level.",
            show_default=False,
            rich_help_panel=_LOAD,
        ),
    ] = None
    window_limit: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Longest steady window: a level that still lacks trajectories then is not judged.",
            show_default=False,
            rich_help_panel=_LOAD,
        ),
    ] = None
    warmup: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="All agents of a level work this long before it is measured. Default: 10.",
            show_default=False,
            rich_help_panel=_LOAD,
        ),
    ] = None
    drain_limit: Annotated[
        float,
        typer.Option(
            metavar="S",
            help="After the steady window, how long its requests may go on; then they are cut off and counted.",
            rich_help_panel=_LOAD,
        ),
    ] = 60.0
    seed: Annotated[
        int, typer.Option(metavar="N", help="Decides which agent plays which task.", rich_help_panel=_LOAD)
    ] = 0
    generators: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Processes that share the agents of a level, where one is too slow. What each agent plays does not "
            "depend on it.",
            rich_help_panel=_LOAD,
        ),
    ] = 1


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What levels are judged by, and whether the most agents are searched for."""

    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Find the most agents that hold each tier: levels double from 2 to the first violation, then the gap "
            "is halved.",
            rich_help_panel=_TARGETS,
        ),
    ] = False
    tier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY:TIER",
            help="Judge levels by this tier, by all of a POLICY, or by FILE.toml:TIER (repeatable; all share their "
            "levels). Default with `--search`: the presets that are made for the model.",
            show_default=False,
            rich_help_panel=_TARGETS,
        ),
    ] = None
    max_agents: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="The search goes no higher.", rich_help_panel=_TARGETS),
    ] = 1024
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="X",
            min=0,
            max=1,
            help="The search ends when the gap is at most this share of the last pass, or one agent.",
            rich_help_panel=_TARGETS,
        ),
    ] = 0.05
    max_lateness: Annotated[
        float,
        typer.Option(
            metavar="S",
            help="A level whose requests were sent later than this after they were due (99th percentile), or for which "
            "the replay itself used more than 90 % of a core, is not judged. Of several generators the worst counts.",
            rich_help_panel=_TARGETS,
        ),
    ] = 0.1
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 1 when a tier is missed: at one of the levels, or in a search at every level.",
            rich_help_panel=_TARGETS,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What is played, and how."""

    task: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only this task of the recording (repeatable).", rich_help_panel=_TRAFFIC),
    ] = None
    limit_turns: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the first N turns of each task.", rich_help_panel=_TRAFFIC),
    ] = None
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory with `tokenizer.json`: text for recordings without words is exact in its tokens. "
            "Default: a token is four bytes, as `simulate` counts.",
            show_default=False,
            rich_help_panel=_TRAFFIC,
        ),
    ] = None
    output_tokens: Annotated[
        OutputTokens,
        typer.Option(
            help="Length of answers: `exact` as recorded (`max_tokens` and `ignore_eos`), at most as `recorded`, or "
            "`natural`, up to the recorded limit, else 16,384.",
            rich_help_panel=_TRAFFIC,
        ),
    ] = OutputTokens.EXACT
    sample_tool_delays: Annotated[
        bool,
        typer.Option(
            "--sample-tool-delays",
            help="Draw each tool delay from those recorded of the same tool. Delays that were not recorded are always "
            "drawn, and counted.",
            rich_help_panel=_TRAFFIC,
        ),
    ] = False
    tool_delay_scale: Annotated[
        float, typer.Option(metavar="X", help="Factor on tool delays.", rich_help_panel=_TRAFFIC)
    ] = 1.0
    tool_delay_cap: Annotated[
        float | None,
        typer.Option(metavar="S", help="Longest tool delay; each cut is counted.", rich_help_panel=_TRAFFIC),
    ] = None
    tool_delay: Annotated[
        float | None,
        typer.Option(metavar="S", help="One tool delay in place of the recorded ones.", rich_help_panel=_TRAFFIC),
    ] = None
    cache_prefix: Annotated[
        CachePrefix,
        typer.Option(
            help="Where each trajectory gets a random prefix, so that it shares no cached prompt with another.",
            rich_help_panel=_TRAFFIC,
        ),
    ] = CachePrefix.SYSTEM
    body: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='Further members of each request body, for example `{"reasoning_effort": "high"}`.',
            rich_help_panel=_TRAFFIC,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Where spans and results go."""

    store: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="OTEL_AGENTPERF_STORE",
            help="Directory of the trace store. Default: `./agentperf-store`.",
            show_default=False,
            rich_help_panel=_TRACES,
        ),
    ] = None
    no_proxy: Annotated[
        bool,
        typer.Option(
            "--no-proxy",
            help="Send straight to the endpoint: it is a proxy of ours already, or no spans are wanted.",
            rich_help_panel=_TRACES,
        ),
    ] = False
    benchmark_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Name of the benchmark in traces. Default: a new one.", rich_help_panel=_TRACES
        ),
    ] = None
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the record of the benchmark here, as JSON, after each level. Default: `ID.json` in the trace "
            "store; none with `--no-proxy`.",
            show_default=False,
            rich_help_panel=_TRACES,
        ),
    ] = None
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Go on with the benchmark of this record: its id and seed, its levels that came to their end; what "
            "decides a result must be the same.",
            show_default=False,
            rich_help_panel=_TRACES,
        ),
    ] = None
    accelerators: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Accelerators of the deployment.", rich_help_panel=_TRACES),
    ] = None
    power_watts: Annotated[
        float | None,
        typer.Option(metavar="N", min=0, help="Mean power of the whole deployment.", rich_help_panel=_TRACES),
    ] = None
    power: Annotated[
        str | None,
        typer.Option(
            metavar="nvml|nvidia-smi|URL",
            help="Measure it: by `nvml` (the extra `gpu`) or `nvidia-smi` on this machine, which then has to be the "
            "deployment, or from Prometheus, `http://HOST:9090?query=sum(...)`. Levels whose window is covered "
            "to 95 % have it.",
            rich_help_panel=_TRACES,
        ),
    ] = None
    format: Annotated[ReplayFormat, typer.Option("--format", "-f", help="Of the summary.", rich_help_panel=_TRACES)] = (
        ReplayFormat.TABLE
    )

    @property
    def directory(self) -> Path:
        """The trace store."""
        return self.store or Path("agentperf-store")


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A recording: `mini` (bundled); a directory or manifest of agentperf-local's format, its wheel, or the "
        "name of a replay in the installed package, such as `agentperf-default-v1` (`PLACE:NAME` picks one of "
        "several); a file of Weka's kv-cache-tester, Mooncake, AIPerf (multi-turn), ATIF, SWE-agent, mini-swe-agent or "
        "OpenHands, or a directory of such files; a trace store that `proxy --capture shape` or `content` recorded.",
    ),
]
