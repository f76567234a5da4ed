"""SLO policies: what a deployment has to hold, as data.

The presets are `policies.toml`; a file of the same form can be given in their place. How a tier is named:

    aa-agentperf:gpt-oss-120b#1              policy and tier; of the newest version that has this tier
    aa-agentperf@2026-05:deepseek-v3.2#1     a certain version
    demo:standard
    my-targets.toml:chat                     a tier of a file; FILE.toml:POLICY:TIER where several policies have it
    my-targets.toml                          the only tier of a file
"""

import tomllib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from otel_agentperf.errors import UsageError

__all__ = ["METRICS", "Target", "TargetMetric", "Tier", "load", "load_presets", "parse", "select"]

_FILE_SUFFIX: Final = ".toml"

TargetMetric = Literal[
    "ttft",
    "server_ttft",
    "time_to_first_chunk",
    "ttfot",
    "tpot",
    "e2e_latency",
    "output_speed",
    "e2e_speed",
]

METRICS: Final[tuple[str, ...]] = get_args(TargetMetric)
"""Metrics of a turn that a target can bound, by their names in the catalogue."""

_UNITS: Final = {"output_speed": "tok/s", "e2e_speed": "tok/s"}
"""Of all others it is seconds."""

_Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[^:@\s]+$")]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A bound that a percentile of a metric must hold."""

    metric: TargetMetric
    percentile: float
    """In percent."""
    bound: Literal["min", "max"]
    value: float
    """In the metric's unit, s or tok/s."""

    def __str__(self) -> str:
        sign = "≥" if self.bound == "min" else "≤"
        return f"P{self.percentile:g} {self.metric} {sign} {self.value:g} {_UNITS.get(self.metric, 's')}"


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """Targets with the rules of their policy. Percentiles in percent, rates from 0 to 1."""

    policy: str
    version: str
    tier: str
    """Name within the policy."""
    models: tuple[str, ...]
    """Patterns of the models it was made for (`*`, `?`; case is ignored)."""
    targets: tuple[Target, ...]
    """All must hold; there is at least one."""
    max_error_rate: float
    """Failed attempts / attempts."""
    skip_tool_call_turns: bool
    """Turns that return tool calls are left out of output_speed and tpot: servers often buffer their tokens."""
    use_estimated_tokens: bool
    """Turns whose tokens nobody but an estimate counted are judged too; else they have no speed."""
    min_trajectories: int
    """Completed in the steady window, for a level to be valid."""
    min_trajectories_per_agent: float
    min_steady_s: float
    min_hold_s: float
    """How long the target concurrency must have held before the window."""
    comparable: bool
    """False for targets that are made for trying things out."""
    fallback: bool
    """By default only applied to models that no other policy knows."""

    @property
    def label(self) -> str:
        """The name that `parse` takes, version included."""
        return f"{self.policy}@{self.version}:{self.tier}"

    @property
    def min_output_speed_tps(self) -> float | None:
        """The least output speed, when there is such a target."""
        return next((it.value for it in self.targets if it.metric == "output_speed" and it.bound == "min"), None)

    @property
    def max_ttft_s(self) -> float | None:
        """The most time to first token, of the client's or the server's view, when there is such a target."""
        return next(
            (it.value for it in self.targets if it.metric in ("ttft", "server_ttft") and it.bound == "max"), None
        )

    def fits(self, model: str) -> bool:
        """Whether the tier was made for the model."""
        return any(fnmatchcase(model.lower(), pattern.lower()) for pattern in self.models)


class _TargetData(msgspec.Struct, forbid_unknown_fields=True):
    """A target as a file has it: `min` or `max`."""

    metric: TargetMetric
    min: _Positive | None = None
    max: _Positive | None = None
    percentile: _Percent | None = None


class _TierData(msgspec.Struct, forbid_unknown_fields=True):
    """A tier as a file has it."""

    name: _Name
    models: tuple[str, ...] = ("*",)
    min_output_speed_tps: _Positive | None = None
    max_ttft_s: _Positive | None = None
    target: tuple[_TargetData, ...] = ()


class _PolicyData(msgspec.Struct, forbid_unknown_fields=True):
    """A policy as a file has it; what is left out is as in AA-AgentPerf."""

    name: _Name
    tier: Annotated[tuple[_TierData, ...], msgspec.Meta(min_length=1)]
    version: _Name = "1"
    description: str = ""
    source: str = ""
    comparable: bool = False
    fallback: bool = False
    ttft_metric: Literal["ttft", "server_ttft"] = "ttft"
    speed_percentile: _Percent = 25.0
    ttft_percentile: _Percent = 95.0
    max_error_rate: _Share = 0.01
    skip_tool_call_turns: bool = False
    use_estimated_tokens: bool = False
    min_trajectories: Annotated[int, msgspec.Meta(ge=0)] = 30
    min_trajectories_per_agent: _NotNegative = 3.0
    min_steady_s: _NotNegative = 600.0
    min_hold_s: _NotNegative = 30.0


class _FileData(msgspec.Struct, forbid_unknown_fields=True):
    policy: Annotated[tuple[_PolicyData, ...], msgspec.Meta(min_length=1)]


@cache
def load_presets() -> tuple[Tier, ...]:
    """The tiers that come with the package."""
    text = (files("otel_agentperf") / "policies.toml").read_text("utf-8")
    return _tiers("the presets", text)


def load(path: str | Path) -> tuple[Tier, ...]:
    """The tiers of a file.

    Raises:
        UsageError: it cannot be read, or does not have the form of `policies.toml`.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"cannot read SLO policies from {path}: {reason}") from problem
    return _tiers(str(path), text)


def parse(name: str) -> Tier:
    """The tier of a name as above.

    Raises:
        UsageError: there is none, or several; the text lists what there is.
    """
    found = select(name)
    if len(found) > 1:
        raise UsageError(f"{name} names several SLO tiers: {_listed(found)}")
    return found[0]


def select(name: str) -> tuple[Tier, ...]:
    """The tiers of a name that may leave parts out: `POLICY` for all its tiers, `POLICY:MODEL` for those of a model.

    Raises:
        UsageError: there is none.
    """
    path, rest = _file_and_rest(name)
    known = load(path) if path else load_presets()
    policy, colon, tier = rest.rpartition(":")
    if not colon:
        policy, tier = ("", rest) if path else (rest, "")
    policy, _, version = policy.partition("@")
    found = [
        each
        for each in known
        if (not policy or each.policy == policy)
        and (not version or each.version == version)
        and (not tier or tier in (each.tier, each.tier.partition("#")[0]))
    ]
    if not found or not (path or policy):
        raise UsageError(_unknown(name, known))
    newest = {each.policy: each.version for each in sorted(found, key=lambda each: each.version)}
    return tuple(each for each in found if each.version == newest[each.policy])


def _file_and_rest(name: str) -> tuple[str, str]:
    """The file of a name, empty for the presets, and what is asked of it."""
    if name.endswith(_FILE_SUFFIX):
        return name, ""
    path, suffix, rest = name.rpartition(_FILE_SUFFIX + ":")
    return (path + _FILE_SUFFIX, rest) if suffix else ("", name)


def _tiers(origin: str, text: str) -> tuple[Tier, ...]:
    try:
        data = msgspec.convert(tomllib.loads(text), _FileData)
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(f"{origin} is not TOML: {problem}") from problem
    except msgspec.ValidationError as problem:
        raise UsageError(f"{origin} does not hold SLO policies: {problem}") from problem
    found = []
    for policy in data.policy:
        rules: dict[str, Any] = {
            name: getattr(policy, name) for name in _PolicyData.__struct_fields__ if name in Tier.__struct_fields__
        }
        del rules["tier"]
        found += [
            Tier(
                policy=policy.name,
                tier=tier.name,
                models=tier.models,
                targets=tuple(_targets(origin, policy, tier)),
                **rules,
            )
            for tier in policy.tier
        ]
    labels = [tier.label for tier in found]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"{origin}: {label} is there twice")
    return tuple(found)


def _targets(origin: str, policy: _PolicyData, tier: _TierData) -> Iterator[Target]:
    """The targets of a tier, those of the two short forms first."""
    given = list(tier.target)
    if tier.max_ttft_s is not None:
        given.insert(0, _TargetData(policy.ttft_metric, max=tier.max_ttft_s))
    if tier.min_output_speed_tps is not None:
        given.insert(0, _TargetData("output_speed", min=tier.min_output_speed_tps))
    if not given:
        raise UsageError(
            f"{origin}: tier {tier.name} has no target; give min_output_speed_tps, max_ttft_s, or a target"
        )
    for target in given:
        if (target.min is None) == (target.max is None):
            raise UsageError(f"{origin}: target {target.metric} of tier {tier.name} needs either min or max")
        at_least = target.min is not None
        usual = policy.speed_percentile if at_least else policy.ttft_percentile
        yield Target(
            metric=target.metric,
            percentile=usual if target.percentile is None else target.percentile,
            bound="min" if at_least else "max",
            value=target.min if target.min is not None else target.max or 0.0,
        )


def _unknown(name: str, known: Sequence[Tier]) -> str:
    close = get_close_matches(name, [f"{tier.policy}:{tier.tier}" for tier in known], n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"unknown SLO tier {name!r}; {meant}there are {_listed(known)}"


def _listed(tiers: Sequence[Tier]) -> str:
    """Labels on one line; of retired versions with the version, so that each can be copied."""
    newest = {tier.policy: tier.version for tier in sorted(tiers, key=lambda tier: tier.version)}
    return ", ".join(
        f"{tier.policy}:{tier.tier}" if tier.version == newest[tier.policy] else tier.label for tier in tiers
    )
