"""otel-agentperf: what coding agents experience of an inference endpoint, as OpenTelemetry traces and metrics.

This package holds the shared vocabulary (`semconv`, `errors`, `policies`), the simulated endpoint, the replay of
recorded trajectories and the command line. The proxy lives in `otel_agentperf_proxy`, the analyzers in
`otel_agentperf_analyzers`; the two never import each other and meet in the span vocabulary and the trace files.
"""

from otel_agentperf._version import __version__

__all__ = ["__version__"]
