"""Child processes that never outlive their parent, and the line they talk over.

A child is a fresh interpreter running an async function `target(control)`. Its standard input is a pipe held by the
parent: the first line is its payload, later lines are questions and the request to stop, and the end of it means that
the parent is gone, however that happened. Its standard output carries one JSON line per answer; what it prints goes to
standard error.
Ctrl-C, and the SIGTERM of some service managers, reach all processes at once, so children ignore both: only the parent
decides who ends, and in which order.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import uvloop

from otel_agentperf.errors import AgentPerfError, ExitCode, UnavailableError
from otel_agentperf.yielding import run_yielding

BACKLOG: Final = 2048

LOG_FORMAT: Final = "%(levelname)s: %(message)s"

STOP: Final = "stop"
"""The line that asks a child to end."""

EAGER: Final = "eager"
YIELDING: Final = "yielding"

_IGNORED: Final = frozenset((signal.SIGINT, signal.SIGTERM))

Target = Callable[["Control"], Awaitable[None]]


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        UnavailableError: the address is in use, not ours, or not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as exc:
        # The text of the exception repeats the address.
        reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno and exc.errno > 0 else str(exc)
        raise UnavailableError(f"cannot listen on {host}:{port}: {reason.lower()}") from exc


def address_of(sock: socket.socket) -> str:
    """`HOST:PORT` of a listening socket, an IPv6 host in brackets."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Control:
    """A child's end of the line to its parent.

    Attributes:
        payload: what the parent passed.
        sockets: what the parent passed, in its order.
        stop: set when the child shall end: the parent says so, or is gone.
        cut: set when it shall end at once: told a second time, or the parent is gone.
    """

    def __init__(self, payload: dict[str, Any], sockets: list[socket.socket], out: int) -> None:
        self.payload = payload
        self.sockets = sockets
        self.stop = asyncio.Event()
        self.cut = asyncio.Event()
        self._out = out
        self._answers: dict[str, Callable[[], dict[str, Any]]] = {}

    def ready(self) -> None:
        """Tell the parent that the child does its work."""
        self._say({"ready": True})

    def answer(self, question: str, with_: Callable[[], dict[str, Any]]) -> None:
        """Have a function answer a question of the parent; its result must be JSON."""
        self._answers[question] = with_

    def _asked(self, question: str) -> None:
        if question == STOP:
            self._terminate()
            return
        answer = self._answers.get(question)
        self._say({"answer": question, "value": answer() if answer else None})

    def _say(self, message: dict[str, Any]) -> None:
        # A parent that is gone hears nothing: the end of our input tells so.
        with contextlib.suppress(OSError):
            os.write(self._out, json.dumps(message).encode() + b"\n")

    def _terminate(self) -> None:
        if self.stop.is_set():
            self.cut.set()
        self.stop.set()

    def _orphaned(self) -> None:
        self.stop.set()
        self.cut.set()

    async def _listen_to_parent(self, stdin: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(stdin, "rb"))
        while line := await reader.readline():
            self._asked(line.decode().strip())
        self._orphaned()


_ALLOCATOR: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 20),
    "MALLOC_TOP_PAD_": str(1 << 20),
}
"""Environment of children, unless it says otherwise: bodies of some hundred kilobytes come and go, and glibc would give
their memory back to the system each time. Measured at 500 KB a request: a third of the observer's CPU, a tenth of a
relay's, were page faults. Other C libraries do not know these names."""


class ChildProcess:
    """A running child.

    Args:
        target: `module:function`, an async function that takes the child's `Control`.
        payload: JSON for the child; not visible in the process list.
        sockets: inherited by the child; the parent keeps its own.
        yielding: it takes the processor time that others leave.
    """

    def __init__(
        self, target: str, payload: dict[str, Any], sockets: Sequence[socket.socket] = (), *, yielding: bool = False
    ) -> None:
        fds = [sock.fileno() for sock in sockets]
        # The child inherits the mask: no signal ends it before it has come so far as to ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "otel_agentperf.processes",
                    target,
                    YIELDING if yielding else EAGER,
                    *map(str, fds),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=fds,
                env=_ALLOCATOR | os.environ,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._write(json.dumps(payload))
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._waiting: dict[str, list[asyncio.Future[Any]]] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; a negative signal number when a signal ended it."""
        return self._process.poll()

    async def ready(self, timeout_s: float = 30.0) -> bool:
        """Wait until the child said that it is ready; False when it ended, or took too long."""
        self._listen()
        assert self._reader is not None
        waiter = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait((waiter, self._reader), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        return self._ready.is_set()

    async def ask(self, question: str, timeout_s: float = 1.0) -> dict[str, Any] | None:
        """The child's answer; None when it gives none in time."""
        self._listen()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question, []).append(future)
        self._write(question)
        try:
            async with asyncio.timeout(timeout_s):
                value: dict[str, Any] | None = await future
                return value
        except TimeoutError:
            return None

    def terminate(self) -> None:
        """Ask it to end; a second time: at once."""
        self._write(STOP)

    async def stop(self, timeout_s: float) -> int:
        """End it: terminate, then kill past the time limit. Returns its exit code."""
        self.terminate()
        return await self.wait(timeout_s)

    async def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end, and kill it past a time limit. Returns its exit code."""
        self._listen()
        assert self._reader is not None
        # Its output ends with it.
        await asyncio.wait((self._reader,), timeout=timeout_s)
        if self._process.poll() is None and not self._reader.done():
            self._process.kill()
        code = await asyncio.to_thread(self._process.wait)
        self._reader.cancel()
        self.close()
        return code

    def block_until_ready(self, timeout_s: float = 30.0) -> bool:
        """`ready` for callers without an event loop, who then use `block_until_ended` too."""
        assert self._process.stdout is not None
        readable, _, _ = select.select((self._process.stdout,), (), (), timeout_s)
        return bool(readable) and b'"ready"' in self._process.stdout.readline()

    def block_until_ended(self, timeout_s: float) -> int:
        """`stop` for callers without an event loop."""
        self.terminate()
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.close()
        return code

    def close(self) -> None:
        """Let go of a child: its line is cut, so that it ends by itself if it still runs."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        # A child that is gone, or a line that was cut.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._listen_to_child())

    async def _listen_to_child(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        assert self._process.stdout is not None
        pipe = os.fdopen(os.dup(self._process.stdout.fileno()), "rb")
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if message.get("ready"):
                    self._ready.set()
                for future in self._waiting.pop(message.get("answer", ""), ()):
                    if not future.done():
                        future.set_result(message["value"])
        finally:
            transport.close()


def _main() -> None:
    """The child's side: `python -m otel_agentperf.processes MODULE:FUNCTION eager|yielding [FD ...]`."""
    target, manner, *fds = sys.argv[1:]
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    # The line to the parent gets descriptors of its own, so that no library can speak or listen on it.
    stdin, stdout = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    logging.basicConfig(format=LOG_FORMAT, level=logging.WARNING)
    first = _read_line(stdin)
    if not first:
        return
    sockets = [socket.socket(fileno=int(fd)) for fd in fds]
    module, _, function = target.partition(":")
    run: Target = getattr(importlib.import_module(module), function)
    try:
        main = _run(run, json.loads(first), sockets, stdin, stdout)
        if manner == YIELDING:
            run_yielding(main)
        else:
            uvloop.run(main)
    except AgentPerfError as exc:
        print(f"otel-agentperf: {exc}", file=sys.stderr)  # noqa: T201
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


async def _run(target: Target, payload: dict[str, Any], sockets: list[socket.socket], stdin: int, stdout: int) -> None:
    control = Control(payload, sockets, stdout)
    parent = asyncio.create_task(control._listen_to_parent(stdin))
    try:
        await target(control)
    finally:
        parent.cancel()


def _read_line(descriptor: int) -> bytes:
    """The first line, byte by byte: what follows it belongs to the event loop."""
    line = bytearray()
    while (byte := os.read(descriptor, 1)) and byte != b"\n":
        line += byte
    return bytes(line)


if __name__ == "__main__":
    _main()
