"""Agent runs that the sampler leaves out of the export, and that go all the same because of what happened in them."""

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

MAX_SPANS: Final = 20_000
"""Spans that are held; beyond them the runs that began first are let go."""

MAX_KEPT: Final = 10_000
"""Runs that are kept and go on; of beyond them only what comes until the next reason."""


class Keeping:
    """Holds the spans of runs until their end, or until one of them is a reason to keep all of its run.

    Args:
        export: takes a span and whether it is exported.
        max_spans: held at a time.
    """

    def __init__(self, export: Callable[[ReadableSpan, bool], None], *, max_spans: int = MAX_SPANS) -> None:
        self._export = export
        self._max_spans = max_spans
        self._held: dict[str, list[ReadableSpan]] = {}
        self._kept: dict[str, None] = {}
        self._count = self._runs_kept = self._runs_let_go = 0

    def add(self, run_id: str, span: ReadableSpan, *, is_reason: bool) -> None:
        """A span of a run that is not sampled."""
        if run_id in self._kept:
            self._export(span, True)
            return
        held = self._held.setdefault(run_id, [])
        held.append(span)
        self._count += 1
        if is_reason:
            self._runs_kept += 1
            self._kept[run_id] = None
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._release(run_id, sampled=True)
        while self._count > self._max_spans:
            self._runs_let_go += 1
            self._release(next(iter(self._held)), sampled=False)

    def end(self, run_id: str) -> None:
        """The run has ended, or the part of it that one trace holds."""
        self._kept.pop(run_id, None)
        self._release(run_id, sampled=False)

    def close(self) -> None:
        """Let go of what is held."""
        for run_id in tuple(self._held):
            self._release(run_id, sampled=False)

    def stats(self) -> dict[str, Any]:
        """Runs kept since the start, runs let go for room before their end, and spans held now."""
        return {"runs_kept": self._runs_kept, "runs_let_go": self._runs_let_go, "spans_held": self._count}

    def _release(self, run_id: str, *, sampled: bool) -> None:
        for span in self._held.pop(run_id, ()):
            self._count -= 1
            self._export(span, sampled)
