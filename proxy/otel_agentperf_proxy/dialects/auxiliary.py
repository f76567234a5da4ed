"""Requests that are no turn by themselves: agents asking for a title, a topic, a commit message, a way to go.

Known phrases only, near the start of the prompt, or known schemas of the answer, and only without tools. When unsure, a
request is a turn.
"""

import re
from typing import Any, Final, Literal, NamedTuple

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
    Prompt("system", b"component that summarizes internal chat history into a given structure"),  # gemini-cli 2025
    Prompt("system", b"component responsible for distilling chat history into a structured XML"),  # gemini-cli 2026
    Prompt("system", b"component that summarizes a conversation when its context window is"),  # qwen-code
    Prompt("last", b"Generate a concise 3-7 word title for this conversation"),  # Zed 2025, summarize_thread_prompt
)

SCHEMAS: Final = (
    frozenset(("complexity_reasoning", "complexity_score")),  # gemini-cli 0.61: which model shall do the task
    frozenset(("reasoning", "model_choice")),  # gemini-cli 2025: the same
    frozenset(("reasoning", "next_speaker")),  # gemini-cli 2025, qwen-code: shall the agent go on
    frozenset(("unproductive_state_analysis", "unproductive_state_confidence")),  # gemini-cli: is it in a loop
)
"""Properties of the answer that a request asks for, which mark it as auxiliary."""


SUMMARIES: Final = (
    b"CRITICAL: Respond with TEXT ONLY. Do NOT call any tools.",  # Claude Code 2.1: with its tools
    b"Your task is to create a detailed summary of the conversation so far",  # Claude Code 1.0, 2.0, and its forks
    b"You are performing a CONTEXT CHECKPOINT COMPACTION.",  # Codex 0.169
    b"Provide a detailed prompt for continuing our conversation above.",  # opencode 1.0
    b"First, reason in your scratchpad. Then, generate the",  # gemini-cli, qwen-code
)
"""Texts that begin so, in the last message of a conversation, ask for a summary to go on with in its place."""

_BEGINS: Final = re.compile(b'"(?:%b)' % b"|".join(map(re.escape, SUMMARIES)))
_SUMMARY: Final = re.compile(
    rb"\bsummar(?:y|i[sz]e)\b[^\"]{0,160}\b(?:conversation|session|context|history|progress|work so far)\b"
    rb"|\b(?:conversation|session|context|history)\b[^\"]{0,160}\b(?:summar(?:y|i[sz]e)|compact)"
)
_TAIL_BYTES: Final = 8192


def is_summary(last: bytes) -> bool:
    """Whether a conversation's last message, as JSON, is known to ask for its summary. Tools do not matter."""
    # An escaped quote is inside a string.
    return any(last[found.start() - 1 : found.start()] != b"\\" for found in _BEGINS.finditer(last))


def asks_for_summary(last: bytes) -> bool:
    """Whether a conversation's last message, as JSON, seems to ask for a summary of it: no more than a hint."""
    if is_summary(last):
        return True
    tail = last[-_TAIL_BYTES:].lower()
    # Most messages hold neither word, and looking for a word is far cheaper than for the expression.
    return (b"summar" in tail or b"compact" in tail) and _SUMMARY.search(tail) is not None


def asks_for(schema: Any) -> bool:
    """Whether a request without tools asks for an answer of a known schema."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return isinstance(properties, dict) and any(properties.keys() == known for known in SCHEMAS)


def matches(system: bytes, first: bytes, last: bytes, max_tokens: int | None) -> bool:
    """Whether a request without tools is auxiliary; prompts as the JSON that was sent."""
    texts = {"system": system[:HEAD_BYTES], "first": first[:HEAD_BYTES], "last": last[:HEAD_BYTES]}
    return is_summary(last) or any(
        prompt.phrase in texts[prompt.where]
        and (prompt.max_tokens is None or (max_tokens is not None and max_tokens <= prompt.max_tokens))
        for prompt in PROMPTS
    )
