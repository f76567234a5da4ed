"""Stands for `otel-agentperf` where commands of the documentation are run; see `documented`.

A server is started in the background, in the place of one of the same kind, and waited for; it ends with the test, at
the latest. What would play for an hour is played for a moment; everything else is what the command is.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HURRY = {
    "demo": {"--seconds": "3"},
    "replay": {"--seconds": "1", "--warmup": "0", "--retries": "0"},
}
"""Options that a command gets unless they are there."""

SMALLER = {"agentperf": "smoke", "quick": "smoke"}
"""Presets that take long, and what is played in their place."""

SERVERS = ("proxy", "simulate", "watch")
ENDS = {"--help", "--check-config", "--once"}
PATIENCE_S = 240.0
KEEP = "--keep"


def main() -> int:
    arguments = sys.argv[1:]
    name = arguments[0] if arguments else ""
    if name == KEEP:
        return _keep(arguments[1:])
    if name == "simulate":
        arguments = _listening_anywhere(arguments)
    if name in SERVERS and not ENDS & set(arguments):
        return _serve(name, arguments)
    if name == "replay":
        arguments = [SMALLER.get(word, word) for word in arguments]
        if "--search" in arguments:
            arguments += ["--max-agents", "2"]
    for option, value in HURRY.get(name, {}).items():
        if option not in arguments and not (option in ("--seconds", "--warmup") and "--preset" in arguments):
            arguments += [option, value]
    command = _command(arguments)
    return os.execv(command[0], command)


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "otel_agentperf", *arguments]


def _listening_anywhere(arguments: list[str]) -> list[str]:
    """The page's own endpoint stands beside that of the test."""
    if "--listen" in arguments:
        at = arguments.index("--listen")
        arguments = arguments[:at] + arguments[at + 2 :]
    return [*arguments, "--listen", "127.0.0.1:0"]


def _serve(name: str, arguments: list[str]) -> int:
    place = Path(os.environ["DOCUMENTED_PLACE"]) / ".background"
    place.mkdir(exist_ok=True)
    file, log = place / f"{name}.pid", place / f"{name}.log"
    with suppress(OSError, ValueError):
        earlier = int(file.read_text())
        os.kill(earlier, signal.SIGTERM)
        _until(lambda: not Path(f"/proc/{earlier}/cmdline").exists())
    command = [sys.executable, __file__, KEEP, *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    file.write_text(str(process.pid))
    ready = _until(lambda: process.poll() is not None or name == "watch" or b"listening on" in log.read_bytes())
    if process.poll() or not ready:
        sys.stderr.write(log.read_text())
        return process.poll() or 1
    return 0


def _keep(arguments: list[str]) -> int:
    """Run a server until told to end, or until the test is no more, however that came."""
    server = subprocess.Popen(_command(arguments))
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    while server.poll() is None:
        if not Path(f"/proc/{os.environ['DOCUMENTED_READER']}").exists():
            server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.5)
    return server.returncode


def _until(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.05)
    return False


if __name__ == "__main__":
    sys.exit(main())
