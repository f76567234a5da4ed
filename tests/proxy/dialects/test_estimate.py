"""Token counts where the server told none: by the chunk, by the byte, or not at all."""

import pytest

from otel_agentperf_proxy.dialects.estimate import estimate
from otel_agentperf_proxy.facts import RequestFacts, ResponseFacts, Usage


def request(text_bytes: int = 340, operation: str = "chat", problem: str | None = None) -> RequestFacts:
    return RequestFacts("", operation, "", text_bytes=text_bytes, problem=problem)


def response(output_bytes: int, chunks: int = 0, usage: Usage | None = None) -> ResponseFacts:
    return ResponseFacts(usage=usage or Usage(), output_bytes=output_bytes, output_ns=[0] * chunks)


@pytest.mark.parametrize(
    ("output_bytes", "chunks", "tokens"),
    [
        (40, 10, 10),  # token by token
        (80, 10, 10),
        (81, 10, 24),  # chunks of more than a token
        (3400, 2, 1000),
        (34, 0, 10),  # no stream
        (1, 0, 1),
    ],
)
def test_output_is_counted_by_chunks_as_small_as_tokens_else_by_bytes(
    output_bytes: int, chunks: int, tokens: int
) -> None:
    facts = response(output_bytes, chunks)
    estimate(request(), facts)
    assert facts.usage == Usage(input=100, output=tokens, estimated=True)


@pytest.mark.parametrize("told", [Usage(input=7), Usage(output=7), Usage(input=0, output=0)])
def test_one_count_by_the_server_is_enough_to_leave_the_other_open(told: Usage) -> None:
    before = Usage(told.input, told.output)
    facts = response(40, 10, told)
    estimate(request(), facts)
    assert facts.usage == before


def test_where_nothing_was_generated_there_is_nothing_to_estimate() -> None:
    facts = response(0)
    estimate(request(), facts)
    assert facts.usage == Usage()


def test_embeddings_have_an_input_only() -> None:
    facts = response(0)
    estimate(request(operation="embeddings"), facts)
    assert facts.usage == Usage(input=100, estimated=True)
    tokens = response(0)
    estimate(request(0, operation="embeddings"), tokens)
    assert tokens.usage == Usage()


def test_the_input_of_a_request_that_could_not_be_read_stays_open() -> None:
    facts = response(40, 10)
    estimate(request(problem="request is cut off"), facts)
    assert facts.usage == Usage(output=10, estimated=True)
