"""Where the observer lives: in a process of its own, restarted when it dies, or inline for tests and embedding."""

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any, Final

import msgspec

from otel_agentperf.errors import UsageError
from otel_agentperf.logs import use_format
from otel_agentperf.processes import BACKLOG, ChildProcess, Control
from otel_agentperf_proxy.channel import Channel
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import HEADER, Frame, Kind, TaskOutcome, encode, encode_record
from otel_agentperf_proxy.log_records import Forwarding, attach, detach
from otel_agentperf_proxy.metrics.series import Family
from otel_agentperf_proxy.observer import Observer, run_observer
from otel_agentperf_proxy.otlp import Signal, find_target
from otel_agentperf_proxy.sinks import InlineChannel
from otel_agentperf_proxy.store import prepare

STOP_S: Final = 15.0
"""Time that an observer gets to write and export what it has."""

TELL_S: Final = 5.0
"""Time that it gets to take an outcome: enough for one that is restarted."""

METRICS_S: Final = 2.0
"""Time that it gets to tell its metrics."""

STEADY_S: Final = 10.0
"""An observer that lived longer than this is restarted at once when it dies."""

MIN_SALT_BYTES: Final = 16

LONGEST_PAUSE_S: Final = 5.0
TICK_S: Final = 0.25

logger = logging.getLogger(__name__)

_instances = itertools.count()

_decode_families = msgspec.msgpack.Decoder(list[Family]).decode


def with_salt(config: ProxyConfig) -> ProxyConfig:
    """The configuration with the key of the hashes: of its file, else of the store, or a random one without a store.

    Raises:
        StoreError: the store cannot be written.
        UsageError: the file cannot be read, or holds no key. Its content is in no message.
    """
    if config.salt:
        return config
    salt = prepare(Path(config.store)).salt_hex if config.store else secrets.token_hex(32)
    if config.salt_file:
        salt = read_salt(Path(config.salt_file))
    return msgspec.structs.replace(config, salt=salt)


def read_salt(path: Path) -> str:
    """The key of the hashes in a file, hex digits.

    Raises:
        UsageError: it cannot be read, or is no key.
    """
    try:
        text = "".join(path.read_text(encoding="ascii").split())
        if len(bytes.fromhex(text)) >= MIN_SALT_BYTES:
            return text
    except OSError as exc:
        raise UsageError(f"cannot read the salt file {path}: {(exc.strerror or str(exc)).lower()}") from exc
    except ValueError:
        pass
    raise UsageError(
        f"{path} is no salt file: it holds at least {2 * MIN_SALT_BYTES} hex digits (openssl rand -hex 32)"
    )


class ObserverProcess:
    """An observer in a process of its own.

    Its listening socket belongs to this process, so relays can connect, and send, also while there is no observer.
    """

    def __init__(self, config: ProxyConfig) -> None:
        self._payload = {"config": msgspec.to_builtins(config)}
        self._directory = tempfile.mkdtemp(prefix="otel-agentperf-")
        self.path = os.path.join(self._directory, "observer")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(self.path)
        except OSError as exc:
            self._socket.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            place = tempfile.gettempdir()
            raise UsageError(f"cannot make a socket in {place} ({exc}): set TMPDIR to a short path") from exc
        self._socket.listen(BACKLOG)
        self._child: ChildProcess | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Of the running observer."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    def start(self) -> None:
        """Start it; needs a running loop."""
        self._spawn()
        self._watcher = asyncio.get_running_loop().create_task(self._keep_alive())

    async def ready(self) -> bool:
        """Wait until it takes frames."""
        return self._child is not None and await self._child.ready()

    async def stats(self) -> dict[str, Any] | None:
        """Its own figures; None when it does not answer."""
        return await self._child.ask("stats") if self._child is not None else None

    async def tell(self, told: TaskOutcome) -> bool:
        """Tell it the outcome of a task; whether it took it."""
        return await self._say(Kind.TASK_OUTCOME, encode_record(told), TELL_S) is not None

    async def tell_processes(self, families: list[Family]) -> bool:
        """Tell it what the processes tell of themselves, for the export of metrics; whether it took it."""
        return await self._say(Kind.PROCESSES, encode_record(families), METRICS_S) is not None

    async def metrics(self) -> list[Family] | None:
        """What it has counted, and what there is now; None when it does not answer."""
        answer = await self._say(Kind.METRICS, b"", METRICS_S)
        return _decode_families(answer) if answer is not None else None

    async def stop(self) -> None:
        """Let it write and export what it has, and end."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._child is not None:
            await self._child.stop(STOP_S)
        self.close()

    def close(self) -> None:
        """Let go of it without waiting: it ends by itself."""
        if self._child is not None:
            self._child.close()
        self._socket.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _say(self, kind: Kind, payload: bytes, timeout_s: float) -> bytes | None:
        """Send a frame by a connection of its own; the payload of the answer, None when there is none."""
        writer = None
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self.path)
                writer.write(encode(kind, 0, monotonic_ns(), payload))
                length, _, _, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
                return await reader.readexactly(length)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None
        finally:
            if writer is not None:
                writer.close()

    def _spawn(self) -> None:
        # On a busy machine the bytes come first, and what the observer then cannot follow is dropped and counted.
        target = "otel_agentperf_proxy.observing:observer_child"
        self._child = ChildProcess(target, self._payload, [self._socket], yielding=True)

    async def _keep_alive(self) -> None:
        pause_s = 0.0
        while True:
            assert self._child is not None
            began = monotonic()
            code = await self._child.wait()
            pause_s = 0.0 if monotonic() - began > STEADY_S else min(max(pause_s * 2, 0.1), LONGEST_PAUSE_S)
            logger.warning("the observer ended (%s) and is restarted; traffic goes on", _told(code))
            await asyncio.sleep(pause_s)
            self.restarts += 1
            self._spawn()


async def observer_child(control: Control) -> None:
    """The observer's process."""
    config = msgspec.convert(control.payload["config"], ProxyConfig)
    use_format(config.log_format)
    observer = Observer(config)
    control.answer("stats", observer.stats)
    control.ready()
    await run_observer(observer, control.sockets[0], control.stop)


class LocalObserver:
    """The observer of an application that is mounted in somebody's process, and the way to it.

    Args:
        config: with its salt.
        inline: in this process instead of one of its own.
    """

    def __init__(self, config: ProxyConfig, *, inline: bool) -> None:
        self.observer: Observer | None = None
        self._process: ObserverProcess | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._forwarding: Forwarding | None = None
        self.sink: Channel | InlineChannel
        worker = f"{os.getpid()}-{next(_instances)}"
        if inline:
            self.observer = Observer(config)
            self.sink = InlineChannel(self.observer, worker)
        else:
            self._process = ObserverProcess(config)
            if find_target(config, Signal.LOGS) is not None:
                self._forwarding = Forwarding(self._process.path)
            self.sink = Channel(self._process.path, worker, limit_bytes=config.channel_bytes)

    @property
    def restarts(self) -> int:
        """Observers that died and were replaced."""
        return self._process.restarts if self._process is not None else 0

    def start(self) -> None:
        """Start observing; needs a running loop."""
        if self.observer is not None:
            self._ticker = asyncio.get_running_loop().create_task(self._tick(self.observer))
        if self._process is not None and isinstance(self.sink, Channel):
            self._process.start()
            self.sink.start()
            if self._forwarding is not None:
                attach(self._forwarding)

    async def stop(self) -> None:
        """Write what is known, and end."""
        if self._ticker is not None and self.observer is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
            await asyncio.to_thread(self.observer.close)
        if isinstance(self.sink, Channel):
            await self.sink.close()
        if self._forwarding is not None:
            detach(self._forwarding)
        if self._process is not None:
            await self._process.stop()

    async def tell(self, told: TaskOutcome) -> bool:
        """Tell the observer the outcome of a task; whether it took it."""
        if self.observer is not None:
            self.observer.feed("", Frame(Kind.TASK_OUTCOME, 0, monotonic_ns(), encode_record(told)))
            return True
        return self._process is not None and await self._process.tell(told)

    async def metrics(self) -> list[Family] | None:
        """What the observer has counted, and what there is now; None when it does not answer."""
        if self.observer is not None:
            return self.observer.metrics()
        return await self._process.metrics() if self._process is not None else None

    async def stats(self) -> dict[str, Any] | None:
        """The observer's own figures; None when it does not answer."""
        if self.observer is not None:
            return self.observer.stats()
        return await self._process.stats() if self._process is not None else None

    async def _tick(self, observer: Observer) -> None:
        while True:
            observer.tick(monotonic_ns())
            await asyncio.sleep(TICK_S)


def _told(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
