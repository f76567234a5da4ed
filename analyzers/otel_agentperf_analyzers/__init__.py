"""DuckDB analyzers: spans in, AgentPerf metrics out."""

from otel_agentperf_analyzers.database import Database, open_source
from otel_agentperf_analyzers.sources import Skipped

__all__ = ["Database", "Skipped", "open_source"]
