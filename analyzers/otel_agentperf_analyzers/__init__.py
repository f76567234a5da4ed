"""DuckDB analyzers: spans in, AgentPerf metrics out."""
