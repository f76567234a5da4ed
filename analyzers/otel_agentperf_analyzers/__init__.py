"""DuckDB analyzers: spans in, AgentPerf metrics out.

import otel_agentperf_analyzers as analyzers

with analyzers.open_source("agentperf-store") as database:
    frame = analyzers.to_pandas(database.relation("turns", where="ttft_s > 1"))

docs/library.md says more.
"""

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
