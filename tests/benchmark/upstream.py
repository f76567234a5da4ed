"""An upstream that costs next to nothing: canned chat completions, streamed at the pace that the query asks for.

`POST /v1/chat/completions?chunks=N&gap_ms=G`: N content chunks, G milliseconds apart (0: all in one write); with
`chunks=0` one JSON body. `/pace/N/G/...` says the same to proxies that keep no query. Run as a process:
`python upstream.py FD` serves an inherited listening socket.
"""

import asyncio
import re
import socket
import sys
from functools import lru_cache

import httptools
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench-model",'
    b'"system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"content":" token number %05d of the answer"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
TAIL = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","model":"bench-model",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-bench","model":"bench-model","choices":[],'
    b'"usage":{"prompt_tokens":500,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'
)
BODY = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","model":"bench-model","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Done."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":500,"completion_tokens":2,"total_tokens":502}}'
)


PACE = re.compile(rb"(?:/pace/|[?]chunks=)(\d+)(?:/|&gap_ms=)([\d.]+)")


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache
def stream(chunks: int) -> tuple[list[bytes], bytes]:
    """The content chunks, and what ends the stream."""
    return [framed(CHUNK % at) for at in range(chunks)], framed(TAIL % (chunks, 500 + chunks)) + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_message_complete(self) -> None:
        pace = PACE.search(self.url)
        self.url = b""
        chunks, gap_s = (int(pace[1]), float(pace[2]) / 1000) if pace else (0, 0.0)
        if not chunks:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
            self.transport.write(head + BODY)
            return
        parts, tail = stream(chunks)
        if not gap_s:
            self.transport.write(HEAD + b"".join(parts) + tail)
            return
        loop = asyncio.get_running_loop()
        start = loop.time()

        def emit(at: int) -> None:
            if self.transport.is_closing():
                return
            self.transport.write((HEAD if at == 0 else b"") + parts[at] + (tail if at + 1 == chunks else b""))
            if at + 1 < chunks:
                loop.call_at(start + (at + 1) * gap_s, emit, at + 1)

        emit(0)


async def main(sock: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, sock=sock)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(socket.socket(fileno=int(sys.argv[1]))))
