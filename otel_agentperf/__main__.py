"""`python -m otel_agentperf` is the command `otel-agentperf`."""

from otel_agentperf.cli.main import main

main()
