"""The AgentPerf report: its content as data (`build`), and renderers of it (`render`)."""

from otel_agentperf_analyzers.report.build import build
from otel_agentperf_analyzers.report.model import Report
from otel_agentperf_analyzers.report.text import render

__all__ = ["Report", "build", "render"]
