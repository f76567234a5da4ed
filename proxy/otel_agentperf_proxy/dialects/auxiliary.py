"""Requests that are no turn by themselves: agents asking for a title, a topic, a commit message.

Known phrases only, near the start of the prompt, and only without tools. When unsure, a request is a turn.
"""

from typing import Final, Literal, NamedTuple

HEAD_BYTES: Final = 1024
"""How far from its start a prompt is searched. A phrase deeper in is quoted material."""


class Prompt(NamedTuple):
    """A prompt that marks an auxiliary request.

    The phrase is sought in the JSON that was sent, so its words hold nothing that JSON escapes.
    """

    where: Literal["system", "first", "last"]
    """The system prompt, the first message after it, or the last message."""
    phrase: bytes
    max_tokens: int | None = None
    """Holds only when the request asks for at most this many output tokens."""


PROMPTS: Final = (
    Prompt("system", b"You are a title generator. You output ONLY a thread title."),  # opencode 1.18
    Prompt("first", b"Generate a title for this conversation:"),  # opencode 1.18
    Prompt("system", b"will generate a short title based on the first message"),  # Vercel AI chat template 3
    Prompt("system", b"generates concise, one-line Git commit messages"),  # aider 0.86
    Prompt("system", b"Analyze if this message indicates a new conversation topic", 512),  # Claude Code 1.0
    Prompt("system", b"Summarize this coding conversation in under 50 characters", 512),  # Claude Code 1.0, 2.0
    Prompt("first", b"Please write a 5-10 word title for the following conversation", 512),  # Claude Code 1.0, 2.0
    Prompt("first", b'"quota"', 1),  # Claude Code 1.0, 2.0: asks for nothing but the rate limit headers
    Prompt("last", b"Generate a concise 3-7 word title for this conversation"),  # Zed 2025, summarize_thread_prompt
)


def matches(system: bytes, first: bytes, last: bytes, max_tokens: int | None) -> bool:
    """Whether a request without tools is auxiliary; prompts as the JSON that was sent."""
    texts = {"system": system[:HEAD_BYTES], "first": first[:HEAD_BYTES], "last": last[:HEAD_BYTES]}
    return any(
        prompt.phrase in texts[prompt.where]
        and (prompt.max_tokens is None or (max_tokens is not None and max_tokens <= prompt.max_tokens))
        for prompt in PROMPTS
    )
