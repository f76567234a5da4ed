"""Messages from shapes: recordings that keep token counts and ids of prefix blocks, and no words. Pure.

A prompt is laid out over token positions. Each block id has a text of its own, so prompts with equal leading ids have
equal leading tokens. A turn keeps the messages of the turn before as far as their blocks are the same, and adds the
answer to that turn and what came after; so histories grow by messages, as those of real agents do.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.recording import Branch, Pieces, Turn
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["Shape", "Weaver"]

_CACHED_BLOCKS: Final = 65_536

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One LLM call without its words."""

    input_tokens: int
    output_tokens: int | None
    blocks: tuple[Hashable, ...]
    """Ids of the full leading blocks of the prompt; a last one may stand for a block that is not full."""
    tool_delay_s: float | None = None
    tools_called: tuple[str, ...] = ()
    branches: tuple[Branch, ...] = ()


class Weaver:
    """Makes the turns of one recording.

    Args:
        vocabulary: what a token is.
        block_tokens: tokens of a block.
        scope: keeps the ids of different recordings apart.
    """

    def __init__(self, vocabulary: Vocabulary, block_tokens: int, scope: str) -> None:
        self._vocabulary = vocabulary
        self._size = block_tokens
        self._scope = scope
        self._pieces = Pieces()
        self._block = lru_cache(maxsize=_CACHED_BLOCKS)(self._make_block)

    def turns(self, shapes: Sequence[Shape], where: str, system_tokens: int = 0) -> tuple[Turn, ...]:
        """The turns of one trajectory.

        Args:
            where: names the trajectory in errors and in text that no block id stands for.
            system_tokens: of the system prompt and the tools at its start, as far as the recording tells.

        Raises:
            SourceError: a prompt too short to hold a message.
        """
        history: list[_Message] = []
        turns = []
        whole, beside = shapes, self._vocabulary.prompt_tokens
        shapes = [replace(shape, input_tokens=shape.input_tokens - beside) for shape in whole]
        for index, shape in enumerate(shapes):
            before = shapes[index - 1] if index else None
            after = shapes[index + 1] if index + 1 < len(shapes) else None
            if shape.input_tokens < self._least:
                raise SourceError(
                    f"{where}: turn {index} has a prompt of {whole[index].input_tokens} tokens, too few to write"
                )
            shared = _shared_tokens(before, shape, self._size) if before is not None else 0
            cut = self._fit(history, shape.input_tokens, shared)
            layout = _Layout(self, shape, after, f"{where}/{index}")
            start = history[-1].end if history else 0
            for role, length in self._lengths(shape.input_tokens - start, before, system_tokens, cut, shared - start):
                text = layout.text(start + self._around[0], start + length - self._around[1])
                start += length
                history.append(_Message(start, role, self._pieces.share(_encode({"role": role, "content": text}))[0]))
            turns.append(
                Turn(
                    tuple(message.json for message in history),
                    None,
                    shape.output_tokens,
                    None,
                    whole[index].input_tokens,
                    shape.tool_delay_s,
                    shape.tools_called,
                    shape.branches,
                )
            )
        return tuple(turns)

    def block(self, block: Hashable) -> list[str]:
        """The text of a block, piece by piece."""
        return self._block(block)

    def tail(self, key: str, count: int) -> list[str]:
        """Text for which there is no block id."""
        return self._vocabulary.pieces(f"{self._scope}/tail/{key}", count)

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""
        return self._size

    def _make_block(self, block: Hashable) -> list[str]:
        return self._vocabulary.pieces(f"{self._scope}/block/{block}", self._size)

    @property
    def _around(self) -> tuple[int, int]:
        """Tokens of a message before and after its text."""
        whole = self._vocabulary.message_tokens
        return whole - whole // 2, whole // 2

    @property
    def _least(self) -> int:
        """Tokens of the shortest message."""
        return self._vocabulary.message_tokens + 1

    def _fit(self, history: list["_Message"], tokens: int, shared: int) -> str | None:
        """Drop the messages that the prompt does not share with the one before, and those that leave no room for
        another one. The role of the first that was dropped comes back; None when none was."""
        cut = None
        while history:
            end = history[-1].end
            if end <= shared and (end == tokens or tokens - end >= self._least):
                break
            cut = history.pop().role
        return cut

    def _lengths(
        self, tokens: int, before: Shape | None, system_tokens: int, cut: str | None, shared: int
    ) -> Iterator[tuple[str, int]]:
        """Roles and lengths of the messages that fill so many tokens.

        Args:
            cut: role of the message that stood here in the prompt before.
            shared: leading tokens that are the same as in that prompt.
        """
        first = None
        if cut is not None and shared > 0:
            # The message goes on as it did, as far as it is shared.
            first = (cut, max(shared, self._least))
        elif before is None and system_tokens:
            first = ("system", system_tokens)
        elif before is not None and before.output_tokens is not None and cut is None:
            answer = before.output_tokens + self._vocabulary.message_tokens
            first = ("assistant", max(min(answer, tokens - self._least), 0))
        if first is not None and first[1] >= self._least and tokens - first[1] >= self._least and first[0] != "user":
            yield first
            tokens -= first[1]
        if tokens:
            yield "user", tokens


@dataclass(frozen=True, slots=True)
class _Message:
    end: int
    """Position of the token after it."""
    role: str
    json: bytes


class _Layout:
    """The text of one prompt by token position."""

    def __init__(self, weaver: Weaver, shape: Shape, after: Shape | None, key: str) -> None:
        self._weaver = weaver
        blocks: tuple[Any, ...] = shape.blocks
        # A block that is not full yet becomes one of the next turn: its beginning is the same.
        if after is not None and after.blocks[: len(blocks)] == blocks:
            blocks = after.blocks
        self._blocks = blocks
        self._key = key

    def text(self, start: int, end: int) -> str:
        """From one position to another."""
        size = self._weaver.block_tokens
        parts: list[str] = []
        at = start
        while at < end:
            number, offset = divmod(at, size)
            stop = min(end, (number + 1) * size)
            if number < len(self._blocks):
                parts += self._weaver.block(self._blocks[number])[offset : offset + stop - at]
            else:
                stop = end
                parts += self._weaver.tail(self._key, stop - at)
            at = stop
        return "".join(parts)


def _shared_tokens(before: Shape, shape: Shape, size: int) -> int:
    """Leading tokens that two prompts share."""
    equal = 0
    for one, other in zip(before.blocks, shape.blocks, strict=False):
        if one != other:
            break
        equal += 1
    if equal == len(before.blocks) and shape.input_tokens >= before.input_tokens:
        return before.input_tokens
    return min(equal * size, shape.input_tokens)
