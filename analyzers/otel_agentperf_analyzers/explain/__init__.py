"""Why things took so long and cost so much: of one trajectory (`waterfall`), of a whole source (`explain`)."""

from otel_agentperf_analyzers.explain.build import explain
from otel_agentperf_analyzers.explain.model import Explanation
from otel_agentperf_analyzers.explain.text import render
from otel_agentperf_analyzers.explain.waterfall import find_trajectory, waterfall

__all__ = ["Explanation", "explain", "find_trajectory", "render", "waterfall"]
