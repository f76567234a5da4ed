"""The report as one HTML file that needs no network."""

from otel_agentperf_analyzers.report.html.page import page

__all__ = ["page"]
