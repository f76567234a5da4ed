"""What agents meet right now: `look` computes it from a store, `render` prints it; the live view shows the same."""

from otel_agentperf_analyzers.report.watch.build import look
from otel_agentperf_analyzers.report.watch.model import Agent, Model, Now, Slow, Standing, Step
from otel_agentperf_analyzers.report.watch.text import TABLES, headline, render

__all__ = ["TABLES", "Agent", "Model", "Now", "Slow", "Standing", "Step", "headline", "look", "render"]
