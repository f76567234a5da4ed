"""The proxy itself, from Prometheus."""

from agents import quantile, rate
from grafana import dashboard, datasource, lines, promql, row, stat, values

HERE = 'job=~"$job", instance=~"$instance"'


def by_instance(metric: str, more: str = "") -> str:
    """Per second."""
    return rate(metric, HERE, f"instance{more}")


PANELS = [
    row("Now"),
    stat("Proxies", promql(f"count (agentperf_build_info{{{HERE}}})")),
    stat("Relays that answer", promql(f"sum (agentperf_relay_up{{{HERE}}})")),
    stat(
        "Observers that do not answer",
        promql(f"count (agentperf_observer_up{{{HERE}}} == 0) or vector(0)"),
        steps=[(1, "red")],
    ),
    stat(
        "Overhead P99",
        promql(quantile(0.99, "agentperf_proxy_overhead_seconds", HERE, window="5m")),
        unit="s",
        steps=[(0.01, "orange"), (0.05, "red")],
        description="What the proxy itself adds to a call.",
    ),
    stat("Exchanges open", promql(f"sum (agentperf_proxy_exchanges_inflight{{{HERE}}})")),
    stat("WebSockets open", promql(f"sum (agentperf_proxy_websockets_open{{{HERE}}})")),
    stat("Trajectories known", promql(f"sum (agentperf_trajectories_known{{{HERE}}})")),
    stat("Longest uptime", promql(f"max (agentperf_proxy_uptime_seconds{{{HERE}}})"), unit="s"),
    row("Bytes"),
    lines(
        "Exchanges by how they ended",
        promql(
            rate("agentperf_proxy_exchanges_total", HERE, "agentperf_exchange_outcome"),
            "{{agentperf_exchange_outcome}}",
        ),
        unit="reqps",
        stack="normal",
    ),
    lines(
        "Responses by status",
        promql(
            rate("agentperf_proxy_responses_total", HERE, "http_response_status_code"), "{{http_response_status_code}}"
        ),
        unit="reqps",
        stack="normal",
    ),
    lines(
        "Overhead",
        promql(quantile(0.5, "agentperf_proxy_overhead_seconds", HERE), "P50"),
        promql(quantile(0.99, "agentperf_proxy_overhead_seconds", HERE), "P99"),
        unit="s",
        description="Request head to the first byte upstream, less the wait for the client; and first byte read to "
        "first byte written.",
    ),
    lines(
        "Failures of upstreams and relays",
        promql(rate("agentperf_proxy_errors_total", HERE, "error_type"), "{{error_type}}"),
        promql(rate("agentperf_relay_restarts_total", HERE), "relays that died"),
        unit="cps",
    ),
    row("Observation"),
    lines(
        "Waiting for the observer",
        promql(
            f"sum by (instance, agentperf_worker) (agentperf_channel_waiting_bytes{{{HERE}}})",
            "{{instance}} {{agentperf_worker}}",
        ),
        unit="bytes",
        description="At `channel_bytes` observations are dropped; the bytes of calls go on.",
    ),
    lines(
        "Lost to observation",
        promql(by_instance("agentperf_channel_frames_dropped_total"), "frames dropped {{instance}}"),
        promql(by_instance("agentperf_channel_calls_lost_total"), "calls without a span {{instance}}"),
        promql(by_instance("agentperf_observer_restarts_total"), "observers that died {{instance}}"),
        promql(
            by_instance("agentperf_observer_errors_total", ", agentperf_failure_kind"),
            "{{agentperf_failure_kind}} {{instance}}",
        ),
        promql(
            by_instance("agentperf_unreadable_bodies_total", ", agentperf_dialect"),
            "unreadable {{agentperf_dialect}} {{instance}}",
        ),
        unit="cps",
    ),
    lines(
        "Spans",
        promql(rate("agentperf_spans_total", HERE), "made"),
        promql(rate("agentperf_store_spans_written_total", HERE), "written to the store"),
        promql(rate("agentperf_export_spans_exported_total", HERE), "exported"),
        promql(rate("agentperf_export_spans_unsampled_total", HERE), "kept out by the sampler"),
        promql(rate("agentperf_store_spans_lost_total", HERE), "lost to the store"),
        promql(rate("agentperf_export_spans_failed_total", HERE), "not taken by the collector"),
        promql(rate("agentperf_export_spans_dropped_total", HERE), "no room to export"),
        unit="cps",
    ),
    lines(
        "Memory of trajectories",
        promql(f"sum by (instance) (agentperf_trajectories_known{{{HERE}}})", "known {{instance}}"),
        promql(f"sum by (instance) (agentperf_open_calls{{{HERE}}})", "open calls {{instance}}"),
        promql(f"sum by (instance) (agentperf_export_spans_waiting{{{HERE}}})", "spans to export {{instance}}"),
        promql(by_instance("agentperf_trajectory_evictions_total"), "forgotten for room, per second {{instance}}"),
        unit="short",
    ),
]

DASHBOARD = dashboard(
    "agentperf-proxy",
    "LLM agents: the proxy itself",
    PANELS,
    [
        datasource("prometheus", "prometheus"),
        values("job", "Proxies", "label_values(agentperf_build_info, job)"),
        values("instance", "Instance", 'label_values(agentperf_build_info{job=~"$job"}, instance)'),
    ],
    description="Whether the proxy passes bytes at once, and sees what it passes.",
)
