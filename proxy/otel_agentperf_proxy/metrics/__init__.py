"""The metrics of a running proxy: counted by the observer, told by OTLP and on `/metrics`.

`series` holds numbers by bounded attributes, `slo` judges calls, `recorder` counts calls, runs and tools; `families`
puts these and what the processes tell of themselves under the names of `otel_agentperf.instruments`, which `prometheus`
and `otlp` write down.
"""
