"""The simulated endpoint as an ASGI application: routes, and the course of one request."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import UTC, datetime
from itertools import islice
from time import monotonic_ns, time
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from otel_agentperf.simulate.answers import Answer, Wish, write
from otel_agentperf.simulate.anthropic_messages import AnthropicMessages
from otel_agentperf.simulate.config import SimulateConfig
from otel_agentperf.simulate.dialect import Dialect, Numbers, Problem, Reply, Request
from otel_agentperf.simulate.driver import Aborted, Driver, Ticket
from otel_agentperf.simulate.engine import Engine, Generation
from otel_agentperf.simulate.openai_chat import OpenAIChat
from otel_agentperf.simulate.tokens import Chain, ChainCache, Section, special
from otel_agentperf.simulate.truth import Truth, TruthLog

__all__ = ["App", "create_app"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"

_CHAT: Final = OpenAIChat()
_MESSAGES: Final = AnthropicMessages()
_ANSWERING: Final[dict[str, Dialect]] = {"/v1/chat/completions": _CHAT, "/v1/messages": _MESSAGES}
_METHODS: Final = {
    "/health": "GET",
    "/v1/models": "GET",
    "/v1/messages/count_tokens": "POST",
    **dict.fromkeys(_ANSWERING, "POST"),
}
_ONE_MODEL: Final = "/v1/models/"
_ASSISTANT: Final = special("assistant")
"""The start of the message that the model is to write, the last token of every prompt."""


def create_app(config: SimulateConfig, *, truth: TruthLog | None = None) -> "App":
    """A simulated endpoint, an ASGI 3 application for one event loop. It works with and without lifespan."""
    return App(config, truth)


class ClientLeft(Exception):
    """The client has closed the connection."""


class Cut(Exception):
    """The connection is to be closed in the middle of the answer."""


class App:
    """The application; see `create_app`."""

    def __init__(self, config: SimulateConfig, truth: TruthLog | None) -> None:
        self.config = config
        self.truth = truth
        self.driver = Driver(Engine(config))
        self.chains = ChainCache(config.block_tokens)
        self.requests = 0
        """Requests for an answer so far."""
        self._started_s = int(time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received_ns = monotonic_ns()
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._route(scope, receive, send, received_ns)
        else:
            raise NotImplementedError(f"no {scope['type']} here")

    def close(self) -> None:
        """End all requests: the server stops."""
        self.driver.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _route(self, scope: Scope, receive: Receive, send: Send, received_ns: int) -> None:
        # Under a mount the path holds the mount's prefix (ASGI, "HTTP connection scope").
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope["method"]
        if path in _ANSWERING and method == "POST":
            await Exchange(self, _ANSWERING[path], scope, receive, send, received_ns).run()
            return
        dialect = _MESSAGES if path.startswith("/v1/messages") or _header(scope, b"anthropic-version") else _CHAT
        try:
            status, body = 200, await self._plain(method, path, receive)
        except ClientLeft:
            return
        except Problem as problem:
            status, body = problem.status, dialect.error(problem)
        await _respond(send, status, body)

    async def _plain(self, method: str, path: str, receive: Receive) -> bytes:
        """The answers that need no model. Raises Problem, ClientLeft."""
        allowed = _METHODS.get(path) or ("GET" if path.startswith(_ONE_MODEL) else None)
        if allowed is None:
            raise Problem(404, f"There is nothing at {path}", "not_found")
        if method != allowed and not (method == "HEAD" and allowed == "GET"):
            raise Problem(405, f"{path} takes {allowed}, not {method}", "method_not_allowed")
        match path:
            case "/health":
                return b'{"status":"ok"}'
            case "/v1/models":
                models = [self._model(self.config.model)]
                return msgspec.json.encode({"object": "list", "data": models, "has_more": False})
            case "/v1/messages/count_tokens":
                chain, _ = self.prompt(_MESSAGES.read_count(await read_body(receive)))
                return msgspec.json.encode({"input_tokens": chain.tokens})
        return msgspec.json.encode(self._model(path.removeprefix(_ONE_MODEL)))

    def _model(self, name: str) -> dict[str, Any]:
        """A model as OpenAI, vLLM and Anthropic describe it, in one."""
        return {
            "id": name,
            "object": "model",
            "created": self._started_s,
            "owned_by": "otel-agentperf",
            "max_model_len": self.config.max_model_len,
            "type": "model",
            "display_name": name,
            "created_at": datetime.fromtimestamp(self._started_s, UTC).isoformat(),
        }

    def prompt(self, sections: Iterable[Section]) -> tuple[Chain, list[int]]:
        """The tokens of a prompt and the digests of its full blocks. Raises Problem."""
        chain, digests = self.chains.build(sections)
        chain = chain.extend(_ASSISTANT)
        return chain, digests + chain.digests


class Exchange:
    """One request for an answer, to the end of its response and its line in the truth log."""

    def __init__(
        self, app: App, dialect: Dialect, scope: Scope, receive: Receive, send: Send, received_ns: int
    ) -> None:
        app.requests += 1
        self._app = app
        self._dialect = dialect
        self._receive = receive
        self._send = send
        self._number = app.requests
        self._rng = random.Random(xxh3_64_intdigest(b"faults %d" % self._number, app.config.seed))
        request_id = _header(scope, b"x-request-id")
        self._truth = Truth(
            request_id=request_id.decode("latin-1") if request_id else f"sim-{self._number}",
            dialect=dialect.name,
            received_ns=received_ns,
        )

    async def run(self) -> None:
        """Answer."""
        truth = self._truth
        try:
            await self._answer()
        except Problem as problem:
            await self._refuse(problem)
        except (ClientLeft, Aborted):
            truth.status = "cancelled"
            if self._app.driver.closed:
                truth.status = "error"
                if truth.http_status is None:
                    await self._refuse(Problem(503, "The simulator is shutting down", "shutting_down"))
        except Cut:
            # A response without its end makes the server close the connection.
            truth.status = "error"
        except asyncio.CancelledError:
            truth.status = "error"
            raise
        finally:
            truth.done_ns = monotonic_ns()
            if self._app.truth is not None:
                self._app.truth.write(truth)

    async def _refuse(self, problem: Problem) -> None:
        self._truth.status = "error"
        self._truth.http_status = problem.status
        await _respond(self._send, problem.status, self._dialect.error(problem), self._headers())

    async def _answer(self) -> None:
        config = self._app.config
        truth = self._truth
        body = await read_body(self._receive)
        truth.body_ns = monotonic_ns()
        if self._rng.random() < config.error_rate:
            raise Problem(config.error_status, "This error was injected by the simulator", "injected")
        request = self._dialect.read(body)
        del body
        truth.model = request.model
        truth.stream = request.stream
        chain, digests = self._app.prompt(request.sections)
        truth.input_tokens = chain.tokens
        answer = write(config, self._wish(request, chain.tokens), chain.digest, chain.tokens, self._number)
        digests += chain.extend(answer.rendered).digests
        ticket = self._app.driver.submit(Generation(chain.tokens, answer.tokens, digests))
        watcher = asyncio.ensure_future(self._watch(ticket))
        try:
            await self._serve(request, answer, ticket)
        finally:
            watcher.cancel()
            self._app.driver.abort(ticket)
            self._note(ticket.generation)

    def _wish(self, request: Request, prompt_tokens: int) -> Wish:
        """Raises Problem when the request does not fit into the model's context."""
        limit = self._app.config.max_model_len
        asked = request.max_tokens
        if prompt_tokens + (asked or 1) > limit:
            raise self._dialect.too_long(prompt_tokens, asked or 1, limit)
        return Wish(
            budget=limit - prompt_tokens if asked is None else asked,
            ignore_eos=request.ignore_eos,
            tools=request.tools,
            choice=request.choice,
            parallel=request.parallel,
            reasoning=request.reasoning,
            seed=request.seed,
        )

    async def _watch(self, ticket: Ticket) -> None:
        """A client that leaves frees its slot, also while nothing is sent to it."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._app.driver.abort(ticket)

    async def _serve(self, request: Request, answer: Answer, ticket: Ticket) -> None:
        await ticket.admission()
        numbers = Numbers(
            id=f"{xxh3_64_intdigest(b'reply %d' % self._number, self._app.config.seed):016x}",
            created_s=int(time()),
            model=request.model,
            prompt_tokens=ticket.generation.prompt_tokens,
            cached_tokens=ticket.generation.cached_tokens,
            include_usage=request.include_usage,
        )
        reply = self._dialect.reply(answer, numbers)
        self._truth.response_id = reply.id
        if request.stream:
            await self._stream(reply, ticket)
        else:
            await self._whole(reply, ticket)
        self._truth.finish_reason = reply.finish_reason
        self._truth.reasoning_tokens = len(answer.reasoning)
        self._truth.tool_calls = len(answer.calls)

    async def _stream(self, reply: Reply, ticket: Ticket) -> None:
        truth, send = self._truth, self._send
        truth.http_status = 200
        headers = [*self._headers(), (b"content-type", EVENT_STREAM), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply.opening(), "more_body": True})
        chunks = reply.tokens()
        sent = truth.output_tokens = 0
        total = reply.answer.tokens
        cut = total // 2 if self._rng.random() < self._app.config.cut_rate else total
        while sent < cut:
            made = min(await ticket.tokens(sent + 1), cut)
            body = next(chunks) if made == sent + 1 else b"".join(islice(chunks, made - sent))
            truth.last_token_ns = monotonic_ns()
            if not sent:
                truth.first_token_ns = truth.last_token_ns
            await send({"type": "http.response.body", "body": body, "more_body": True})
            sent = truth.output_tokens = made
        # uvloop writes once all that is ready has run: the reply's end and the log shall not hold up the last token.
        await asyncio.sleep(0)
        if cut < total:
            raise Cut
        if ticket.aborted:
            raise Aborted
        await send({"type": "http.response.body", "body": reply.closing()})

    async def _whole(self, reply: Reply, ticket: Ticket) -> None:
        await ticket.tokens(reply.answer.tokens)
        self._truth.http_status = 200
        self._truth.output_tokens = reply.answer.tokens
        await _respond(self._send, 200, reply.body(), self._headers())

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [(self._dialect.request_id_header, self._truth.request_id.encode("latin-1"))]

    def _note(self, generation: Generation) -> None:
        """The model's part of the truth."""
        truth = self._truth
        submitted, admitted = generation.submitted_ns, generation.admitted_ns
        first, last = generation.first_token_ns, generation.last_token_ns
        if submitted is not None and admitted is not None:
            truth.cached_tokens = generation.cached_tokens
            truth.queue_s = (admitted - submitted) / 1e9
            if first is not None and last is not None:
                truth.prefill_s = (first - admitted) / 1e9
                truth.decode_s = (last - first) / 1e9


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request. Raises ClientLeft, Problem when it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise Problem(413, f"The body of the request is larger than {MAX_BODY_BYTES} bytes", "request_too_large")
        if not message.get("more_body", False):
            return b"".join(parts)


async def _respond(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    fields = [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for field, value in scope["headers"] if field == name), None)
