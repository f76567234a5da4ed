"""Link keys: what of a call another proxy's calls can be compared with, on the call's own span. Pure.

A proxy behind a load balancer sees some turns of a trajectory and not the others. What its rules compare (messages,
tool-call ids, texts) goes onto the span as keyed hashes, so that relation `stitch` of the analyzers joins the calls of
all proxies by the same rules. Equal things have equal keys under one salt and one tenant, and nothing can be tried
against them without the salt; proxies with different salts never meet.

The attribute is words with spaces between; the first letter says what a word is. Keys are base64url, of 72 bits where
they are looked for among all calls, shorter where they only confirm.

    request                                             response
    e KEY   all its messages                            R KEY   its messages and this answer: what goes on from it
    n KEY:BYTES     all but the last one, where that            has b KEY
            is text                                     t KEY DIGEST:NAME   a tool call: its id, its arguments
    b KEY   the messages before the last answer, and    A POSITION.MARK     a string argument that may be the task of
            that answer                                         a sub-agent
    p KEY:BYTES     the messages before it              S MARK  a line of a summary of the conversation
    a KEY   the same as b of the first answer
    r KEY   a tool result (`!` after it: an error)      V KEY   its id, where requests may name it
    w, u    the last message is results, or text        z       asks for a summary of the conversation
    o MARK  the last text of a user                     i, x    an agent named itself, or its session only
    q MARK  further texts, where there is no answer     s MARK  launcher tags
    l MARK  a line that may be of a summary             k MARK  the user request, as the client names it
    f MARK  the first message                           g N     compactions so far, as the client counts them
    W KEY   the response that it continues              y       the client says that it compacted
    d MILLISECONDS:NAME   how long a tool took, as the client says
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy import marks
from otel_agentperf_proxy.facts import Identity, Message, RequestFacts, ResponseFacts, ToolCall
from otel_agentperf_proxy.trajectory import beside, history
from otel_agentperf_proxy.trajectory.placement import Placement
from otel_agentperf_proxy.trajectory.rules import SUMMARY_MESSAGES, looks_random
from otel_agentperf_proxy.trajectory.state import TELLING_CHARS
from otel_agentperf_proxy.trajectory.tools import is_assistant, is_text

KEY_BYTES: Final = 9
"""72 bits: among the five billion keys of a billion calls, two are equal by chance once in a year."""

MARK_BYTES: Final = 6
"""48 bits, for what is compared within seconds, or between two calls that something else brought together."""

DIGEST_CHARS: Final = 6
"""Of the digest of a tool call's arguments, which is compared within one trajectory."""

MAX_CALLS: Final = 64
"""Tool calls of one response, and results of one request, that have a key."""

MAX_ARGUMENTS: Final = 16
"""Arguments of one response that a sub-agent is looked for by."""

MAX_NAME: Final = 64
"""Characters of a tool's name."""

MAX_TEXTS: Final = 8
MAX_LINES: Final = 8
"""Lines of one message that may hold a summary, of which a request has three."""

MAX_SUMMARY_LINES: Final = 32
MAX_DURATIONS: Final = 64

_SYSTEM_ROLES: Final = frozenset(("system", "developer"))
_STORING_DIALECT: Final = "openai.responses"
_NAMELESS: Final = frozenset(("gemini.generate", "ollama.chat"))
"""Dialects whose servers may give tool calls no ids, so that clients make some up: what tells is their place."""


class LinkKeys:
    """Makes the link keys of a proxy's calls.

    Args:
        salt: the key of the hashes; one for a fleet whose calls are to be joined.
    """

    def __init__(self, salt: bytes) -> None:
        self._keyed = blake2b(key=salt[:64], digest_size=KEY_BYTES)

    def of(
        self,
        tenant: str,
        placement: Placement,
        identity: Identity | None,
        request: RequestFacts,
        response: ResponseFacts | None,
        status: str,
    ) -> str:
        """The value of `agentperf.link` for a call that ended."""
        words = self._of_identity(tenant, placement, identity)
        chain, messages = placement.chain, request.messages
        if messages:
            words += self._of_messages(tenant, chain, messages, nameless=request.dialect in _NAMELESS)
            if placement.turn is None or not any(map(is_assistant, messages)):
                words += self._of_texts(tenant, messages)
            if placement.turn is not None and _may_be_compacted(messages):
                words += self._of_lines(tenant, messages)
        if response is not None and status != semconv.Status.ERROR:
            end = history.entry(chain, history.length(chain))
            words += self._of_response(tenant, end, response, nameless=request.dialect in _NAMELESS)
            if placement.summarizes and status == semconv.Status.OK:
                lines = sorted(set(marks.split(response.lines)))[:MAX_SUMMARY_LINES]
                words += ["S" + self._mark(tenant, line) for line in lines]
        if request.dialect == _STORING_DIALECT:
            named = request.attributes.get(semconv.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID)
            if isinstance(named, str):
                words.append("W" + self._key(tenant, named.encode("utf-8", "replace")))
            if response is not None and response.id:
                words.append("V" + self._key(tenant, response.id.encode("utf-8", "replace")))
        return " ".join(words)

    def _of_identity(self, tenant: str, placement: Placement, identity: Identity | None) -> list[str]:
        words = []
        if placement.scope:
            words.append("s" + self._mark(tenant, repr(placement.scope).encode("utf-8", "replace")))
        if placement.summarizes:
            words.append("z")
        if identity is None:
            # A session that the body alone names.
            return [*words, "x"] if placement.trajectory.explicit or placement.trajectory.session else words
        words.append("x" if identity.session_only else "i")
        if identity.run_key is not None:
            words.append("k" + self._mark(tenant, identity.run_key.encode("utf-8", "replace")))
        if identity.segment is not None:
            words.append(f"g{identity.segment}")
        if identity.compacted:
            words.append("y")
        told = identity.tool_durations_s[:MAX_DURATIONS]
        return words + [f"d{round(duration_s * 1000)}:{_word(name)}" for name, duration_s in told]

    def _of_messages(self, tenant: str, chain: bytes, messages: Sequence[Message], *, nameless: bool) -> list[str]:
        count = len(messages)
        words = ["e" + self._key(tenant, history.entry(chain, count)), "f" + self._mark(tenant, chain[:16])]
        last = next((message for message in reversed(messages) if message.role not in _SYSTEM_ROLES), None)
        if last is not None and is_text(last):
            words.append("u")
            words.append("o" + self._mark(tenant, beside.last_text(messages)))
            if count > 1:
                size = sum(message.size for message in messages[:-1])
                words.append(f"n{self._key(tenant, history.entry(chain, count - 1))}:{size}")
        elif last is not None and last.tool_results:
            words.append("w")
        if (begin := _last_answer(messages)) is None:
            return words
        before = history.entry(chain, begin)
        words.append("b" + self._answer(tenant, before, messages, begin, nameless=nameless))
        words.append(f"p{self._key(tenant, before)}:{sum(message.size for message in messages[:begin])}")
        first = next(at for at, message in enumerate(messages) if is_assistant(message))
        if first != begin:
            entry = history.entry(chain, first)
            words.append("a" + self._answer(tenant, entry, messages, first, nameless=nameless))
        return words + self._of_results(tenant, before, messages, begin, nameless=nameless)

    def _answer(self, tenant: str, before: bytes, messages: Sequence[Message], begin: int, *, nameless: bool) -> str:
        """Key of the messages before an answer, and of the answer that begins there: of the ids of its tool calls
        where it has some, else of its words."""
        ids: list[str] = []
        for message in messages[begin:]:
            if nameless or not is_assistant(message):
                break
            ids += [call.id for call in message.tool_calls if call.id]
        return self._key(tenant, before, _answer_bytes(ids, messages[begin].digest))

    def _of_results(
        self, tenant: str, before: bytes, messages: Sequence[Message], begin: int, *, nameless: bool
    ) -> list[str]:
        names = {call.id: call.name for message in messages[begin:] for call in message.tool_calls if call.id}
        words: list[str] = []
        after = begin
        for at in range(begin, len(messages)):
            if is_assistant(messages[at]):
                after = at + 1
        position = 0
        for message in messages[after:]:
            for result in message.tool_results:
                call_id = None if nameless else result.call_id
                key = self._call_key(tenant, before, call_id, names.get(call_id or "", ""), position)
                words.append(f"r{key}{'!' if result.is_error else ''}")
                position += 1
        return words[:MAX_CALLS]

    def _of_response(self, tenant: str, end: bytes, response: ResponseFacts, *, nameless: bool) -> list[str]:
        words = []
        calls = response.tool_calls
        ids = [call.id for call in calls if call.id and not nameless]
        if ids or response.message_digest is not None:
            words.append("R" + self._key(tenant, end, _answer_bytes(ids, response.message_digest or b"")))
        for position, call in enumerate(calls[:MAX_CALLS]):
            key = self._call_key(tenant, end, None if nameless else call.id, call.name, position)
            digest = self._key(tenant, call.arguments_digest)[:DIGEST_CHARS]
            words.append(f"t{key}{digest}:{_word(call.name)}")
        return words + self._arguments(tenant, calls)

    def _arguments(self, tenant: str, calls: Sequence[ToolCall]) -> list[str]:
        words = []
        for position, call in enumerate(calls):
            for text in call.string_arguments:
                if len(text.strip()) >= TELLING_CHARS:
                    words.append(f"A{position}.{self._mark(tenant, marks.mark(text))}")
                    if len(words) == MAX_ARGUMENTS:
                        return words
        return words

    def _of_texts(self, tenant: str, messages: Sequence[Message]) -> list[str]:
        """Of a conversation without answers, or an auxiliary call: what may stand in another agent's call."""
        texts = [
            mark
            for message in reversed(messages)
            if message.role not in _SYSTEM_ROLES
            for mark in reversed(marks.split(message.texts))
        ]
        return ["q" + self._mark(tenant, mark) for mark in dict.fromkeys(texts[:MAX_TEXTS])]

    def _of_lines(self, tenant: str, messages: Sequence[Message]) -> list[str]:
        """Lines that may be of a summary: the smallest ones, as of the summary, so that what both texts have is found
        on both sides. It stands in the first message of a user, or in one of the last two."""
        texts = [message for message in messages if message.role not in _SYSTEM_ROLES and not is_assistant(message)]
        lines = [
            line
            for message in (*texts[:1], *texts[1:][-2:])
            for line in sorted(set(marks.split(message.lines)))[:MAX_LINES]
        ]
        return ["l" + self._mark(tenant, line) for line in dict.fromkeys(lines)]

    def _call_key(self, tenant: str, before: bytes, call_id: str | None, name: str, position: int) -> str:
        """Key of a tool call: of its id alone where that looks random, else of the conversation too."""
        if call_id and looks_random(call_id, name):
            return self._key(tenant, b"", call_id.encode("utf-8", "replace"))
        return self._key(tenant, before, (call_id or f"#{position}").encode("utf-8", "replace"))

    def _key(self, tenant: str, *parts: bytes) -> str:
        return self._hash(tenant, parts, KEY_BYTES)

    def _mark(self, tenant: str, part: bytes) -> str:
        return self._hash(tenant, (part,), MARK_BYTES)

    def _hash(self, tenant: str, parts: Iterable[bytes], size: int) -> str:
        hashed = self._keyed.copy()
        hashed.update(b"\0".join((tenant.encode(), *parts)))
        return urlsafe_b64encode(hashed.digest()[:size]).decode()


def _may_be_compacted(messages: Sequence[Message]) -> bool:
    """Whether a summary may stand in the place of an earlier history: nothing of it is left that tools did."""
    return (
        len(messages) <= SUMMARY_MESSAGES
        and not any(message.tool_results for message in messages)
        and any(is_text(message) for message in messages[-2:])
    )


def _last_answer(messages: Sequence[Message]) -> int | None:
    """Where the last answer begins; neighbours are one answer."""
    begin = None
    for at in range(len(messages) - 1, -1, -1):
        if is_assistant(messages[at]):
            begin = at
        elif begin is not None:
            break
    return begin


def _answer_bytes(ids: Sequence[str], digest: bytes) -> bytes:
    return "\0".join(sorted(ids)).encode("utf-8", "replace") if ids else digest


def _word(name: str) -> str:
    """A tool's name without white space."""
    return "_".join(name[:MAX_NAME].split()) or "_"
