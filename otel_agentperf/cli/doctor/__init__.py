"""`doctor`: finds what commonly goes wrong, and says what to do about it."""

from otel_agentperf.cli.doctor.command import register

__all__ = ["register"]
