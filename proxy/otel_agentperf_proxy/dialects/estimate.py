"""Token counts of calls whose server told none: estimates, and marked as such on the span.

Output: one token for each output chunk, when the response was streamed in chunks as small as tokens are. Else, and for
the input always: bytes of text by `BYTES_PER_TOKEN`, rounded. Media and token ids are not counted; what the server's
chat template adds is not known.

Only a response that came to a good end, and in which something was generated, is estimated: what a broken one cost
nobody can tell. One count told by the server is enough to leave the other one open.
"""

from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import RequestFacts, ResponseFacts

BYTES_PER_TOKEN: Final = 3.4
"""UTF-8 bytes of text, over the 168 turns of agents that agentperf-local 0.3.4 recorded with their servers' counts: the
median is 3.4, four of five turns are between 2.9 and 4.0."""

MAX_CHUNK_BYTES: Final = 8.0
"""Mean text per chunk up to which a chunk is taken for a token. Servers that bundle tokens send more."""


def estimate(request: RequestFacts, response: ResponseFacts) -> None:
    """Fill in the usage of a response that came to a good end, when its server told none."""
    usage = response.usage
    if usage.input is not None or usage.output is not None:
        return
    if response.output_bytes:
        usage.output = _output_tokens(response)
    elif request.operation != semconv.OPERATION_EMBEDDINGS:
        return
    if request.problem is None and request.text_bytes:
        usage.input = max(round(request.text_bytes / BYTES_PER_TOKEN), 1)
    usage.estimated = usage.input is not None or usage.output is not None


def _output_tokens(response: ResponseFacts) -> int:
    chunks = len(response.output_ns)
    if chunks and response.output_bytes <= MAX_CHUNK_BYTES * chunks:
        return chunks
    return max(round(response.output_bytes / BYTES_PER_TOKEN), 1)
