"""DuckDB analyzers: spans in, AgentPerf metrics out.

import otel_agentperf_analyzers as analyzers

with analyzers.open_source("agentperf-store") as database:
    frame = analyzers.to_pandas(database.relation("turns", where="ttft_s > 1"))

docs/library.md says more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_agentperf_analyzers.database import Database, open_source
    from otel_agentperf_analyzers.frames import to_pandas, to_polars
    from otel_agentperf_analyzers.inputs import Deployment, Inputs, load_outcomes, load_power
    from otel_agentperf_analyzers.sources import Skipped

__all__ = [
    "Database",
    "Deployment",
    "Inputs",
    "Skipped",
    "load_outcomes",
    "load_power",
    "open_source",
    "to_pandas",
    "to_polars",
]

_HOMES: Final = {
    "Database": "database",
    "open_source": "database",
    "to_pandas": "frames",
    "to_polars": "frames",
    "Deployment": "inputs",
    "Inputs": "inputs",
    "load_outcomes": "inputs",
    "load_power": "inputs",
    "Skipped": "sources",
}
"""Modules that these come from. They are loaded when they are asked for: processes that only decode lines start in half
the time without DuckDB."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
