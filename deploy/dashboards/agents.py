"""What agents experience, from Prometheus."""

from grafana import Json, dashboard, datasource, heatmap, lines, promql, row, stat, values

JOB = 'job=~"$job"'
MODEL = f'{JOB}, gen_ai_request_model=~"$model"'
AGENT = f'{MODEL}, gen_ai_agent_name=~"$agent"'
TIER = f'{JOB}, agentperf_slo_tier=~"$tier"'
SLO = f'{TIER}, gen_ai_request_model=~"$model"'


def rate(metric: str, labels: str, by: str = "", window: str = "$__rate_interval") -> str:
    """Per second, summed."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[{window}]))"


def share(part: str, whole: str) -> str:
    """Also where there is no part yet."""
    return f"({part} or 0 * {whole}) / {whole}"


def quantile(q: float, histogram: str, labels: str, by: str = "", window: str = "$__rate_interval") -> str:
    """From buckets."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', labels, f'{by}, le' if by else 'le', window)})"


def bound(target: str) -> Json:
    """The line that a tier draws."""
    return promql(
        f'max by (agentperf_slo_tier) (agentperf_slo_bound{{{TIER}, agentperf_slo_target="{target}"}})',
        "bound {{agentperf_slo_tier}}",
    )


def failed(by: str = "", window: str = "$__rate_interval") -> str:
    """Share of calls that failed or broke off."""
    calls = rate("agentperf_calls_total", MODEL, by, window)
    return share(rate("agentperf_calls_total", f'{MODEL}, agentperf_status=~"error|truncated"', by, window), calls)


def met(by: str = "", window: str = "$__rate_interval") -> str:
    """Goodput."""
    calls = rate("agentperf_slo_calls_total", SLO, by, window)
    return share(rate("agentperf_slo_calls_total", f'{SLO}, agentperf_slo_met="true"', by, window), calls)


def cached(by: str = "", window: str = "$__rate_interval") -> str:
    """Share of prompt tokens from the prefix cache."""
    whole = rate("agentperf_prefix_cache_input_tokens_total", MODEL, by, window)
    return f"{rate('agentperf_prefix_cache_cached_tokens_total', MODEL, by, window)} / {whole}"


ACTIVE = f"sum (agentperf_agents_active{{{JOB}}})"
CAPACITY = f"sum (agentperf_capacity{{{JOB}}})"
USED = f"1 - sum (agentperf_capacity_headroom{{{JOB}}}) / {CAPACITY}"
MISSES = f'agentperf_slo_target_calls_total{{{SLO}, agentperf_slo_met="false"}}'
TARGET = "agentperf_slo_tier, agentperf_slo_target"


def burn(window: str) -> str:
    """How many times as many calls miss a target as its tier allows."""
    calls = f"sum by ({TARGET}) (rate(agentperf_slo_target_calls_total{{{SLO}}}[{window}]))"
    missed = f"(sum by ({TARGET}) (rate({MISSES}[{window}])) or 0 * {calls})"
    return f"{missed} / {calls} / (1 - max by ({TARGET}) (agentperf_slo_objective_ratio{{{TIER}}}))"


NOW = [
    row("Now"),
    stat("Agents at work", promql(ACTIVE), description="Runs without a final answer, tool calls included."),
    stat(
        "Capacity in use",
        promql(USED),
        unit="percentunit",
        steps=[(0.8, "orange"), (0.9, "red")],
        description="Agents at work / agents that the deployment holds (`--capacity`).",
    ),
    stat(
        "Calls in flight",
        promql(f"sum (agentperf_calls_inflight{{{MODEL}}})"),
        description="The rest of the agents waits for tools.",
    ),
    stat("TTFT P95", promql(quantile(0.95, "agentperf_ttft_seconds", AGENT, window="5m")), unit="s", decimals=2),
    stat(
        "Output speed P25",
        promql(quantile(0.25, "agentperf_output_speed_per_second", AGENT, window="5m")),
        unit="none",
        decimals=0,
        description="Tokens per second of one stream; three of four turns are faster.",
    ),
    stat(
        "Calls within the tier",
        promql(met(window="5m")),
        unit="percentunit",
        description="Goodput: calls that meet all targets of the tier. Failed calls miss.",
    ),
    stat("Calls that fail", promql(failed(window="5m")), unit="percentunit", steps=[(0.01, "orange"), (0.05, "red")]),
    stat(
        "Prefix cache hit",
        promql(cached(window="5m")),
        unit="percentunit",
        description="Prompt tokens that the server says came from its cache.",
    ),
]

TIERS = [
    row("Against the tier"),
    lines(
        "Time to first token",
        promql(
            quantile(0.95, "agentperf_ttft_seconds", AGENT, "gen_ai_request_model"),
            "P95 {{gen_ai_request_model}}",
            exemplars=True,
        ),
        promql(quantile(0.5, "agentperf_ttft_seconds", AGENT, "gen_ai_request_model"), "P50 {{gen_ai_request_model}}"),
        bound("ttft"),
        unit="s",
        bounds=True,
        description="To the first content, reasoning or tool call. Dots are calls: they lead to their traces.",
    ),
    lines(
        "Output speed",
        promql(
            quantile(0.25, "agentperf_output_speed_per_second", AGENT, "gen_ai_request_model"),
            "P25 {{gen_ai_request_model}}",
            exemplars=True,
        ),
        promql(
            quantile(0.5, "agentperf_output_speed_per_second", AGENT, "gen_ai_request_model"),
            "P50 {{gen_ai_request_model}}",
        ),
        bound("output_speed"),
        unit="none",
        bounds=True,
        description="Tokens per second from the first to the last output of a turn. The bound is from below.",
    ),
    lines(
        "Goodput",
        promql(met("agentperf_slo_tier, gen_ai_request_model"), "{{agentperf_slo_tier}} {{gen_ai_request_model}}"),
        unit="percentunit",
        highest=1,
        description="Share of calls that meet all targets of a tier.",
    ),
    lines(
        "SLO burn",
        promql(burn("5m"), "{{agentperf_slo_target}}, 5 min, {{agentperf_slo_tier}}"),
        promql(burn("1h"), "{{agentperf_slo_target}}, 1 h, {{agentperf_slo_tier}}"),
        promql("vector(1)", "bound"),
        unit="none",
        bounds=True,
        description="How many times as many calls miss a target as the tier allows; above 1 it does not hold.",
    ),
]

CAPACITIES = [
    row("Capacity"),
    lines(
        "Agents at work over time",
        promql(
            f"sum by (gen_ai_request_model, agentperf_agent_kind) (agentperf_agents_active{{{AGENT}}})",
            "{{agentperf_agent_kind}} {{gen_ai_request_model}}",
        ),
        promql(CAPACITY, "bound capacity"),
        stack="none",
        bounds=True,
        description="Trajectories within a run; sub-agents are those that another agent started.",
    ),
    lines(
        "Agents with a call in flight",
        promql(
            f"sum by (gen_ai_request_model) (agentperf_calls_inflight{{{MODEL}}})"
            f" / sum by (gen_ai_request_model) (agentperf_agents_active{{{MODEL}}} > 0)",
            "{{gen_ai_request_model}}",
        ),
        unit="percentunit",
        description="The others run tools or their harness: capacity in requests is not capacity in agents.",
    ),
    lines(
        "Where agents' time goes",
        promql(rate("agentperf_agent_time_seconds_total", MODEL, "agentperf_agent_state"), "{{agentperf_agent_state}}"),
        stack="percent",
        unit="percentunit",
        description="ttft: waiting for the first output; decode: to the end; call: not streamed, or failed; tool; "
        "harness: between calls, no tool known; idle: for a human. Counted when it is over.",
    ),
    lines(
        "Prefix cache hit by turn",
        promql(cached("agentperf_turn_depth"), "turns {{agentperf_turn_depth}}"),
        promql(
            "sum (rate(vllm:prefix_cache_hits_total[$__rate_interval]))"
            " / sum (rate(vllm:prefix_cache_queries_total[$__rate_interval]))",
            "the engine's own count (vLLM)",
        ),
        unit="percentunit",
        highest=1,
        description="Of later turns nearly all should come from the cache: their prompts repeat the turns before.",
    ),
]

CALLS = [
    row("Calls and tokens"),
    lines(
        "Calls by how they ended",
        promql(
            rate("agentperf_calls_total", AGENT, "agentperf_turn_kind, agentperf_status"),
            "{{agentperf_status}} {{agentperf_turn_kind}}",
        ),
        unit="reqps",
        stack="normal",
    ),
    lines(
        "Errors and retries",
        promql(rate("agentperf_errors_total", MODEL, "error_type"), "{{error_type}}"),
        promql(rate("agentperf_retries_total", MODEL), "tried again"),
        unit="reqps",
    ),
    lines(
        "Tokens",
        promql(rate("gen_ai_client_inference_usage_output_tokens_total", MODEL), "output"),
        promql(rate("gen_ai_client_inference_usage_input_tokens_total", MODEL), "input"),
        promql(rate("gen_ai_client_inference_usage_cache_read_input_tokens_total", MODEL), "input from the cache"),
        unit="none",
        description="Per second, as servers count them.",
    ),
    heatmap(
        "Time to first token, all calls",
        promql(f"sum by (le) (increase(agentperf_ttft_seconds_bucket{{{AGENT}}}[$__rate_interval]))", exemplars=True),
        unit="s",
    ),
]

RUNS = [
    row("Agents and tools"),
    lines(
        "Run duration",
        promql(
            quantile(
                0.5, "gen_ai_invoke_agent_duration_seconds", f'{JOB}, gen_ai_agent_name=~"$agent"', "gen_ai_agent_name"
            ),
            "P50 {{gen_ai_agent_name}}",
        ),
        promql(
            quantile(
                0.95, "gen_ai_invoke_agent_duration_seconds", f'{JOB}, gen_ai_agent_name=~"$agent"', "gen_ai_agent_name"
            ),
            "P95 {{gen_ai_agent_name}}",
            exemplars=True,
        ),
        unit="s",
        description="A run goes from a user's request to the final answer.",
    ),
    lines(
        "Turns of a run",
        promql(
            quantile(
                0.5, "gen_ai_invoke_agent_inference_calls", f'{JOB}, gen_ai_agent_name=~"$agent"', "gen_ai_agent_name"
            ),
            "P50 {{gen_ai_agent_name}}",
        ),
        promql(
            quantile(
                0.95, "gen_ai_invoke_agent_inference_calls", f'{JOB}, gen_ai_agent_name=~"$agent"', "gen_ai_agent_name"
            ),
            "P95 {{gen_ai_agent_name}}",
        ),
        unit="none",
    ),
    lines(
        "Tools, P95 of the slowest ten",
        promql(
            "topk(10, "
            + quantile(
                0.95, "gen_ai_execute_tool_duration_seconds", f'{JOB}, gen_ai_agent_name=~"$agent"', "gen_ai_tool_name"
            )
            + ")",
            "{{gen_ai_tool_name}}",
        ),
        unit="s",
    ),
    lines(
        "Tool calls",
        promql(
            rate("gen_ai_execute_tool_duration_seconds_count", f'{JOB}, gen_ai_agent_name=~"$agent"', "error_type"),
            "{{error_type}}",
        ),
        unit="cps",
        description="By error; the line without a name went well.",
    ),
]

DASHBOARD = dashboard(
    "agentperf-agents",
    "LLM agents",
    [*NOW, *TIERS, *CAPACITIES, *CALLS, *RUNS],
    [
        datasource("prometheus", "prometheus"),
        values("job", "Proxies", "label_values(agentperf_build_info, job)"),
        values("model", "Model", f"label_values(agentperf_calls_total{{{JOB}}}, gen_ai_request_model)"),
        values("agent", "Agent", f"label_values(agentperf_calls_total{{{JOB}}}, gen_ai_agent_name)"),
        values("tier", "SLO tier", f"label_values(agentperf_slo_bound{{{JOB}}}, agentperf_slo_tier)"),
    ],
    description="What coding agents experience on the endpoint, as the proxy in front of it sees it.",
)
