"""The plots of a report: their data (`charts`), their specifications (`vega_lite`), images of them (`write_images`)."""

from otel_agentperf_analyzers.report.charts.draw import charts, left_out
from otel_agentperf_analyzers.report.charts.images import ImageFormat, write_images
from otel_agentperf_analyzers.report.charts.model import Chart
from otel_agentperf_analyzers.report.charts.vega import converter, runtime, vega_lite

__all__ = ["Chart", "ImageFormat", "charts", "converter", "left_out", "runtime", "vega_lite", "write_images"]
