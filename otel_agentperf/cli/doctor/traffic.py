"""What recorded calls tell of the set-up: wrong paths, no streams, no usage, agents without identities, buffering."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from otel_agentperf.cli.doctor.findings import Finding, note, ok, problem, warning
from otel_agentperf.errors import SourceError

if TYPE_CHECKING:
    from otel_agentperf_analyzers import Database

__all__ = ["recorded", "traffic"]

FEW: Final = 0.05
"""Shares below this are no pattern."""

MOST: Final = 0.5
OVERHEAD_S: Final = 0.05
FUTURE_S: Final = 60.0
MANY_TOKENS: Final = 20
"""An answer of so many tokens that a stream of one chunk is none."""

_TURNS: Final = """
SELECT
    COUNT(*) AS turns,
    COUNT(*) FILTER (status = 'ok') AS good,
    COUNT(*) FILTER (http_status IN (401, 403)) AS refused,
    COUNT(*) FILTER (http_status = 404) AS not_found,
    COUNT(*) FILTER (http_status = 429) AS limited,
    COUNT(*) FILTER (http_status >= 500 OR http_status IS NULL AND status = 'error') AS broken,
    COUNT(*) FILTER (status = 'truncated') AS truncated,
    COUNT(*) FILTER (status = 'ok' AND NOT stream) AS whole,
    COUNT(*) FILTER (status = 'ok' AND stream) AS streamed,
    COUNT(*) FILTER (status = 'ok' AND usage_source <> 'server') AS uncounted,
    COUNT(*) FILTER (status = 'ok' AND stream AND usage_source <> 'server' AND dialect = 'openai.chat') AS askable,
    COUNT(*) FILTER (status = 'ok' AND stream AND output_tokens >= $many) AS long,
    COUNT(*) FILTER (status = 'ok' AND stream AND output_tokens >= $many AND chunk_count <= 1) AS in_one_piece,
    COUNT(*) FILTER (status = 'ok' AND usage_source = 'server' AND cached_input_tokens IS NULL) AS uncached,
    COUNT(*) FILTER (dropped_parts > 0 OR status = 'partial') AS partly,
    QUANTILE_CONT(proxy_overhead_s, 0.95) AS overhead_s,
    MAX(start_time) AS last
FROM attempts
WHERE kind = 'turn'
"""

_TRAJECTORIES: Final = """
WITH told AS (
    SELECT trajectory_id, COUNT(*) AS turns, MIN(start_time) AS first, MAX(end_time) AS last,
        BOOL_AND(trajectory_source IN ('tool_call_id', 'prefix', 'prefix_recorded', 'new')) AS guessed
    FROM turns
    WHERE trajectory_id IS NOT NULL
    GROUP BY trajectory_id
)
SELECT
    COUNT(*) AS trajectories,
    COUNT(*) FILTER (guessed) AS guessed,
    COUNT(*) FILTER (guessed AND turns = 1) AS alone,
    (SELECT COUNT(*) FROM told AS a JOIN told AS b
        ON a.guessed AND b.guessed AND a.trajectory_id < b.trajectory_id AND a.first < b.last AND b.first < a.last
    ) AS together
FROM told
"""

_NAMING: Final = {"claude-cli/": "Claude Code", "codex": "Codex", "opencode/": "opencode"}
"""Agents that send ids, by the beginning of their User-Agent; the names of these headers drift between versions."""

_SILENT: Final = """
SELECT ANY_VALUE(user_agent) AS user_agent, COUNT(DISTINCT trajectory_id) AS trajectories
FROM turns
WHERE starts_with(user_agent, $product)
HAVING COUNT(*) > 0 AND BOOL_AND(trajectory_source IN ('tool_call_id', 'prefix', 'prefix_recorded', 'new'))
"""

_PATHS: Final = """
SELECT "url.path" AS path, COUNT(*) AS calls, ANY_VALUE("http.response.status_code") AS status
FROM spans
WHERE "url.path" IS NOT NULL
    AND ("url.path" LIKE '%/v1/v1/%' OR "gen_ai.operation.name" IS NULL)
GROUP BY ALL
ORDER BY calls DESC, path
LIMIT 4
"""


def recorded(source: str, since: datetime | None, check: str = "traffic") -> Iterator[Finding]:
    """What a source tells.

    Args:
        source: of spans.
        since: only what began after it.
        check: the name that findings get.
    """
    from otel_agentperf_analyzers import open_source

    try:
        with open_source(source, since=since) as database:
            yield from traffic(database, check)
    except SourceError as exc:
        yield note(check, f"nothing is recorded yet: {exc}")


def traffic(database: "Database", check: str = "traffic") -> Iterator[Finding]:
    """What the calls of a database tell of the set-up."""
    if database.skipped.lines:
        yield warning(
            check,
            f"{database.skipped.lines:,} lines cannot be read, the first is {database.skipped.examples[0]}",
            "a process that was killed leaves one such line; more mean a full or broken disk",
        )
    (row,) = database.fetch(_TURNS, {"many": MANY_TOKENS}).to_pylist()
    paths = database.query(_PATHS).to_pylist()
    yield from _paths(check, paths, row["turns"])
    if not row["turns"]:
        return
    seen = _Seen(check, row)
    yield from seen.answers()
    yield from seen.streams()
    yield from seen.counts()
    yield from seen.observation()
    for product, name in _NAMING.items():
        for silent in database.fetch(_SILENT, {"product": product}).to_pylist():
            yield warning(
                check,
                f"{name} ({silent['user_agent']}) sends none of the ids that are known of it",
                "a gateway before the proxy may take headers away; or this version names them anew: please report it",
            )
    (told,) = database.query(_TRAJECTORIES).to_pylist()
    yield from _identities(check, told)


def _paths(check: str, paths: list[dict[str, Any]], turns: int) -> Iterator[Finding]:
    doubled = [path for path in paths if "/v1/v1/" in path["path"]]
    for path in doubled:
        yield problem(
            check,
            f"{path['calls']:,} requests went to {path['path']}",
            "take /v1 off the end of --upstream, or of the client's base URL",
        )
    others = [path for path in paths if path not in doubled]
    if turns or doubled:
        return
    if others:
        told = ", ".join(f"{path['path']} ({path['status']})" for path in others)
        yield warning(
            check,
            f"requests came, and none is an inference call that is known here: {told}",
            "see docs/clients.md for the base URL of each client",
        )
    else:
        yield note(check, "no call was recorded", "see the findings on clients")


@dataclass(frozen=True, slots=True)
class _Seen:
    """One row of `_TURNS`."""

    check: str
    row: dict[str, Any]

    def _share(self, name: str, of: str) -> float:
        return self.row[name] / self.row[of] if self.row[of] else 0.0

    def answers(self) -> Iterator[Finding]:
        """Whether calls succeed."""
        row = self.row
        yield ok(self.check, f"{row['turns']:,} calls were recorded, {row['good']:,} of them ended well")
        for name, words, advice in (
            ("refused", "were refused (401, 403)", "see the API key of the client; the proxy passes it unchanged"),
            (
                "not_found",
                "met no such path or model (404)",
                "see the model's name, and the base URLs: take /v1 off the end of --upstream",
            ),
            ("limited", "met a rate limit (429)", "raise the limit, or run fewer agents"),
            ("broken", "failed at the server (5xx, or no answer)", "see the server's log; `otel-agentperf explain`"),
            ("truncated", "broke off half way", "see the server's log, and time limits of what is between"),
        ):
            if self._share(name, "turns") > FEW:
                make = problem if self._share(name, "turns") > MOST else warning
                yield make(self.check, f"{row[name]:,} of {row['turns']:,} calls {words}", advice)

    def streams(self) -> Iterator[Finding]:
        """Whether there is a first token to see."""
        row = self.row
        if self._share("whole", "good") > MOST:
            yield warning(
                self.check,
                f"{row['whole']:,} of {row['good']:,} answers were not streamed: they have no TTFT and no output speed",
                'let the client stream ("stream": true)',
            )
        if self._share("in_one_piece", "long") > MOST:
            yield problem(
                self.check,
                f"{row['in_one_piece']:,} of {row['long']:,} streams came in one piece: something before the model "
                "buffers them, and TTFT is the whole answer's",
                "switch buffering off there (nginx: proxy_buffering off), or take it out of the way",
            )

    def counts(self) -> Iterator[Finding]:
        """Whether servers tell token counts."""
        row = self.row
        if self._share("uncounted", "good") > FEW:
            advice = "let the server tell usage; until then counts are estimated, and speeds with them"
            if row["askable"] * 2 > row["uncounted"]:
                advice = (
                    'start the proxy with --ask-usage, or let clients send "stream_options": {"include_usage": true}'
                )
            yield warning(
                self.check, f"{row['uncounted']:,} of {row['good']:,} answers came without token counts", advice
            )
        if row["good"] and row["uncached"] == row["good"]:
            yield note(
                self.check,
                "no answer tells how many input tokens came from the cache",
                "vLLM tells with --enable-prompt-tokens-details, SGLang with --enable-cache-report",
            )

    def observation(self) -> Iterator[Finding]:
        """Whether the proxy itself keeps up."""
        row = self.row
        if row["overhead_s"] is not None and row["overhead_s"] > OVERHEAD_S:
            yield warning(
                self.check,
                f"the proxy added {row['overhead_s'] * 1000:.0f} ms to a call at the 95th percentile",
                "give it processor time, or more --workers",
            )
        if row["partly"]:
            yield warning(
                self.check,
                f"{row['partly']:,} calls were only seen in part",
                "see `otel-agentperf doctor` while the proxy runs: it counts what was dropped, and why",
            )
        ahead = row["last"] - datetime.now(UTC)
        if ahead > timedelta(seconds=FUTURE_S):
            yield problem(
                self.check,
                f"the last call began {ahead.total_seconds():.0f} s in the future",
                "let the clocks synchronise (NTP), here or where the proxy runs",
            )


def _identities(check: str, told: dict[str, Any]) -> Iterator[Finding]:
    trajectories, guessed = told["trajectories"], told["guessed"]
    if not trajectories:
        return
    if not guessed:
        yield ok(check, f"all {trajectories:,} trajectories have an identity that their client sent")
        return
    words = f"{guessed:,} of {trajectories:,} trajectories are told apart by their messages alone"
    advice = (
        "let agents send x-agentperf-trajectory-id (a name for each task), or a session id: docs/clients.md says how"
    )
    if told["together"]:
        yield warning(check, f"{words}, and some ran at the same time: equal prompts may be mixed up", advice)
    elif told["alone"] * 2 > guessed and guessed > 4:
        yield warning(check, f"{words}, and {told['alone']:,} of these have one call only", advice)
    else:
        yield note(check, words, advice)
