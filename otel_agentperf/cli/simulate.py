"""`simulate`: an inference endpoint without a model, over a believable model of serving."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agentperf.cli.common import configure_logging, console, parse_address

if TYPE_CHECKING:
    from otel_agentperf.simulate import SimulateConfig

_EXAMPLE = """
Serve OpenAI chat completions and Anthropic messages without a model: a simulated deployment with prefill, prefix cache,
continuous batching and a queue answers with reasoning, text and tool calls, in tokens of four bytes.

Same seed and same requests give the same answers. The truth log tells per request what the deployment did, to check
measurements against.

Example:

    otel-agentperf simulate --listen 127.0.0.1:8000 --max-batch 16 --truth truth.jsonl

    curl -N http://127.0.0.1:8000/v1/chat/completions -d '{"model": "simulated", "stream": true,
    "messages": [{"role": "user", "content": "Why does the build fail?"}]}'

`/v1/models` tells the context length, `/health` that it serves.
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(help=_EXAMPLE)(simulate)


def simulate(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to serve; port 0 takes a free one.")
    ] = "127.0.0.1:8000",
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append what happened to each request, as JSON lines.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name in /v1/models; any name is answered. [default: simulated]")
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Longest prompt and output together, tokens. [default: 131072, or what --kv-tokens hold]"
        ),
    ] = None,
    prefill_tokens_per_s: Annotated[
        float | None,
        typer.Option(metavar="N", help="Uncached prompt tokens per second, all requests together. [default: 20000]"),
    ] = None,
    prefill_chunk_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Prompt tokens computed per step, between decodes. [default: 512]")
    ] = None,
    decode_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="A decode step of one request. [default: 10]")
    ] = None,
    decode_slope_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="What each further request adds to a step. [default: 0.2]")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Requests that run at a time; others queue. [default: 64]")
    ] = None,
    kv_tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="KV memory, running requests and prefix cache together. [default: 1048576]"),
    ] = None,
    block_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens of a KV block, the unit of sharing. [default: 16]")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Median length of an answer that ends by itself. [default: 200]")
    ] = None,
    output_spread: Annotated[
        float | None, typer.Option(metavar="X", help="Deviation of that length's logarithm. [default: 0.8]")
    ] = None,
    reasoning_rate: Annotated[
        float | None, typer.Option(metavar="0..1", help="Share of answers that begin with reasoning. [default: 0.5]")
    ] = None,
    tool_call_rate: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="Share of answers with tool calls, where there are tools. [default: 0.7]"),
    ] = None,
    error_rate: Annotated[
        float | None, typer.Option(metavar="0..1", help="Share of requests that get an error. [default: 0]")
    ] = None,
    error_status: Annotated[
        int | None, typer.Option(metavar="STATUS", help="The HTTP status of these errors. [default: 503]")
    ] = None,
    cut_rate: Annotated[
        float | None, typer.Option(metavar="0..1", help="Share of streams that break off half way. [default: 0]")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Another seed, other answers. [default: 0]")] = None,
) -> None:
    import uvloop

    from otel_agentperf.processes import address_of
    from otel_agentperf.processes import listen as listen_on
    from otel_agentperf.simulate.config import SimulateConfig

    told: dict[str, Any] = {
        "model": model,
        "max_model_len": max_model_len,
        "prefill_tokens_per_s": prefill_tokens_per_s,
        "prefill_chunk_tokens": prefill_chunk_tokens,
        "decode_ms": decode_ms,
        "decode_slope_ms": decode_slope_ms,
        "max_batch": max_batch,
        "kv_tokens": kv_tokens,
        "block_tokens": block_tokens,
        "output_tokens": output_tokens,
        "output_spread": output_spread,
        "reasoning_rate": reasoning_rate,
        "tool_call_rate": tool_call_rate,
        "error_rate": error_rate,
        "error_status": error_status,
        "cut_rate": cut_rate,
        "seed": seed,
    }
    options = {name: value for name, value in told.items() if value is not None}
    config = SimulateConfig.fitting(**options)
    address = parse_address(listen)
    configure_logging()
    with listen_on(*address) as sock:
        where = address_of(sock)
        uvloop.run(_run(config, sock, truth, lambda: console.print(f"simulate: listening on http://{where}")))
    console.print("simulate: ended")


async def _run(
    config: "SimulateConfig", sock: socket.socket, truth: Path | None, on_listening: Callable[[], None]
) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from otel_agentperf.simulate import serve

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await serve(config, sock, truth, stop, on_listening=on_listening)
