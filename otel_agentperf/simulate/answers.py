"""What the simulated model says: reasoning, text, tool calls, of exactly as many tokens as counted.

An answer depends on the seed and on the prompt alone, not on the time or on other requests; only its ids also depend on
the number of the request, because no two answers may share an id.
"""

import json
import math
import random
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct
from xxhash import xxh3_64_intdigest

from otel_agentperf.simulate.config import SimulateConfig
from otel_agentperf.simulate.prose import PROSE_TOKENS, prose
from otel_agentperf.simulate.tokens import TOKEN_BYTES, pad, special

__all__ = ["Answer", "Call", "Choice", "Finish", "Tool", "Wish", "compact", "render_call", "write"]

MAX_TOKENS_PER_PROMPT_TOKEN: Final = 8
"""A short question gets a short answer: left to itself, the model says at most this much for each token it was told."""

_MANY_CALLS: Final = 0.2
"""Share of tool-calling answers that call several tools at once."""

_MAX_SCHEMA_DEPTH: Final = 8


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class Choice(StrEnum):
    """What the request says about calling tools."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class Tool(Struct, frozen=True):
    """A tool of the request: its name and the JSON schema of its arguments."""

    name: str
    schema: Any = None


class Wish(Struct, frozen=True, kw_only=True):
    """What a request asks of its answer."""

    budget: int
    """Most tokens that it may have, 1 or more."""
    ignore_eos: bool = False
    """It has exactly `budget` tokens."""
    tools: tuple[Tool, ...] = ()
    choice: Choice = Choice.AUTO
    parallel: bool = True
    """Several tools may be called at once."""
    reasoning: bool = True
    """It may begin with reasoning."""
    seed: int = 0


class Call(Struct, frozen=True):
    """A tool call; the call's start is one token, the arguments are the others."""

    id: str
    name: str
    arguments: bytes
    """JSON, pure ASCII; cut off when the budget ended inside."""
    complete: bool

    @property
    def pieces(self) -> list[bytes]:
        """The arguments, token by token."""
        return [self.arguments[at : at + TOKEN_BYTES] for at in range(0, len(self.arguments), TOKEN_BYTES)]


class Answer(Struct, frozen=True):
    """An answer, token by token."""

    reasoning: list[bytes]
    text: list[bytes]
    calls: list[Call]
    finish: Finish
    tokens: int

    @property
    def rendered(self) -> bytes:
        """Its tokens as they stand in the prompt of a request that carries it on."""
        return b"".join([*self.reasoning, *self.text, *[render_call(call.name, call.arguments) for call in self.calls]])


def render_call(name: str, arguments: bytes) -> bytes:
    """A tool call as tokens of a prompt."""
    return special(f"call {name}") + pad(arguments)


def compact(arguments: Any) -> bytes:
    """Arguments as the model writes them: JSON without spaces, pure ASCII."""
    return json.dumps(arguments, separators=(",", ":")).encode("ascii")


def write(config: SimulateConfig, wish: Wish, prompt_digest: int, prompt_tokens: int, number: int) -> Answer:
    """The answer to a prompt.

    Args:
        config: rates and lengths.
        wish: what the request asks for.
        prompt_digest: digest of all tokens of the prompt.
        prompt_tokens: their number.
        number: of the request, unlike that of any other.
    """
    rng = random.Random(_mix(config.seed, wish.seed, prompt_digest))
    length = round(math.exp(rng.gauss(math.log(config.output_tokens), config.output_spread)))
    length = max(1, min(length, MAX_TOKENS_PER_PROMPT_TOKEN * prompt_tokens))
    if wish.ignore_eos:
        length = wish.budget
    calls = _calls(config, wish, rng, number)
    call_tokens = sum([_tokens(call) for call in calls])
    words = max(length - call_tokens, 0)
    reasoning = int(words * rng.uniform(0.2, 0.7)) if wish.reasoning and rng.random() < config.reasoning_rate else 0
    place = rng.randrange(PROSE_TOKENS)
    answer = Answer(
        prose(place, reasoning),
        prose(place + reasoning, words - reasoning),
        calls,
        Finish.TOOL_CALLS if calls else Finish.STOP,
        words + call_tokens,
    )
    return _cut(answer, wish.budget) if wish.ignore_eos or answer.tokens > wish.budget else answer


def _cut(answer: Answer, budget: int) -> Answer:
    """The first `budget` tokens of an answer."""
    reasoning = answer.reasoning[:budget]
    text = answer.text[: budget - len(reasoning)]
    left = budget - len(reasoning) - len(text)
    calls = []
    for call in answer.calls:
        if not left:
            break
        size = (left - 1) * TOKEN_BYTES
        if size < len(call.arguments):
            call = Call(call.id, call.name, call.arguments[:size], False)
        calls.append(call)
        left -= _tokens(call)
    return Answer(reasoning, text, calls, Finish.LENGTH, budget - left)


def _tokens(call: Call) -> int:
    return 1 + -(-len(call.arguments) // TOKEN_BYTES)


def _calls(config: SimulateConfig, wish: Wish, rng: random.Random, number: int) -> list[Call]:
    wanted = wish.choice is Choice.REQUIRED or (wish.choice is Choice.AUTO and rng.random() < config.tool_call_rate)
    if not wish.tools or not wanted:
        return []
    count = rng.randint(2, 3) if wish.parallel and rng.random() < _MANY_CALLS else 1
    calls = []
    for index in range(count):
        tool = rng.choice(wish.tools)
        arguments = _object(tool.schema, rng, 0)
        calls.append(Call(f"{_mix(config.seed, number, index):016x}", tool.name, compact(arguments), True))
    return calls


def _object(schema: Any, rng: random.Random, depth: int) -> dict[str, Any]:
    """An object that a schema describes, as far as its types go: all required properties and some of the others."""
    schema = schema if isinstance(schema, dict) else {}
    properties = schema.get("properties")
    required = schema.get("required")
    names = required if isinstance(required, list) else []
    if not isinstance(properties, dict):
        return {}
    return {
        name: _value(property_schema, rng, depth + 1)
        for name, property_schema in properties.items()
        if name in names or rng.random() < 0.3
    }


def _value(schema: Any, rng: random.Random, depth: int) -> Any:
    schema = schema if isinstance(schema, dict) else {}
    if "const" in schema:
        return schema["const"]
    options = schema.get("enum")
    if isinstance(options, list) and options:
        return rng.choice(options)
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(alternatives, list) and alternatives and depth < _MAX_SCHEMA_DEPTH:
        return _value(alternatives[0], rng, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    match kind:
        case "integer" | "number":
            return rng.randint(1, 100)
        case "boolean":
            return rng.random() < 0.5
        case "array":
            count = rng.randint(1, 3) if depth < _MAX_SCHEMA_DEPTH else 0
            return [_value(schema.get("items"), rng, depth + 1) for _ in range(count)]
        case "object":
            return _object(schema, rng, depth) if depth < _MAX_SCHEMA_DEPTH else {}
        case "null":
            return None
    return b"".join(prose(rng.randrange(PROSE_TOKENS), rng.randint(2, 20))).decode("ascii").strip()


def _mix(*numbers: int) -> int:
    """One number out of several, 64 bits."""
    return xxh3_64_intdigest(b"".join([(number % (1 << 64)).to_bytes(8, "little") for number in numbers]))
