"""What can stand between the client and the upstream: nothing, our proxy, and those that it is compared with.

Each is a context manager that starts the processes on a core and gives a `Stack`.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from otel_agentperf.processes import address_of, listen

HERE = Path(__file__).parent

PEERS = "OTEL_AGENTPERF_PEERS"

NGINX = """
daemon off;
worker_processes 1;
error_log stderr crit;
pid {work}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  upstream up {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {listening} reuseport;
    location / {{
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 1h;
    }}
  }}
}}
"""


@dataclass
class Stack:
    """Something that answers requests.

    Attributes:
        name: as in the tables.
        port: on 127.0.0.1.
        relay_pids: the processes that the bytes go through.
        other_pids: the rest of its processes, as far as they work.
        share: part of a load's requests that it is given: the slow would take minutes for all.
        admin: address of the control routes, where there are some.
    """

    name: str
    port: int
    relay_pids: list[int] = field(default_factory=list)
    other_pids: list[int] = field(default_factory=list)
    share: float = 1.0
    admin: str | None = None

    def dropped(self) -> int:
        """Frames that did not fit the way to the observer, so far."""
        return 0 if self.admin is None else status_of(self.admin)["relays"][0]["stats"]["channel"]["frames_dropped"]

    def settle(self) -> None:
        """Wait until what happens behind the traffic has been done too."""
        if self.admin is None:
            return
        while True:
            status = status_of(self.admin)
            waiting = status["relays"][0]["stats"]["channel"].get("waiting_bytes", 0)
            if not waiting and not status["relays"][0]["stats"]["inflight"]:
                break
            time.sleep(0.02)
        time.sleep(0.3)


@dataclass(frozen=True)
class Cores:
    """Where processes run: the proxy on one core, client and upstream on another, our observer where there is room.

    The observer is no part of the byte path. Held to the client's core it would keep the client from reading, and that
    would be counted as time that the proxy added.
    """

    proxy: int
    load: int

    @classmethod
    def choose(cls) -> "Cores":
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1])


@contextlib.contextmanager
def _on(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _unpin(pid: int) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), range(os.cpu_count() or 1))


@contextlib.contextmanager
def _ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_address() -> str:
    with listen("127.0.0.1", 0) as free:
        return address_of(free)


def _answers(
    process: subprocess.Popen, address: str, path: str = "/?chunks=0&gap_ms=0", patience_s: float = 180
) -> None:
    until = time.monotonic() + patience_s
    while True:
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended at once, with exit code {process.returncode}")
        try:
            urlopen(f"http://{address}{path}", timeout=5).close()
            return
        except OSError as exc:
            if getattr(exc, "code", 0) in (404, 405):
                return
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextlib.contextmanager
def upstream(cores: Cores) -> Iterator[str]:
    """The canned upstream; gives its address."""
    with listen("127.0.0.1", 0) as sock:
        with _on(cores.load):
            command = [sys.executable, str(HERE / "upstream.py"), str(sock.fileno())]
            process = subprocess.Popen(command, pass_fds=[sock.fileno()])
        with _ended(process):
            yield address_of(sock)


@contextlib.contextmanager
def direct(cores: Cores, address: str, work: Path) -> Iterator[Stack]:
    """No proxy."""
    yield Stack("direct", _port(address))


def nginx_missing() -> str | None:
    """Why nginx cannot take part, or None."""
    if _nginx() is None:
        return "nginx left out: it is not installed (Debian: apt-get install nginx-light)"
    return None


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def nginx(cores: Cores, address: str, work: Path) -> Iterator[Stack]:
    """One worker that buffers nothing, with kept upstream connections."""
    listening = _free_address()
    config = work / "nginx.conf"
    config.write_text(NGINX.format(work=work, upstream=address, listening=listening))
    binary = _nginx()
    assert binary is not None
    with _on(cores.proxy):
        process = subprocess.Popen([binary, "-p", str(work), "-c", str(config)])
    with _ended(process):
        _answers(process, listening)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Stack("nginx", _port(listening), [int(pid) for pid in children])


def ours(*options: str, name: str = "ours", **environment: str):
    """Our proxy with a store, and with further options."""

    @contextlib.contextmanager
    def start(cores: Cores, address: str, work: Path) -> Iterator[Stack]:
        listening, admin = _free_address(), _free_address()
        store = work / f"store-{name.replace(' ', '-')}"
        command = ["proxy", "--upstream", f"http://{address}", "--listen", listening, "--admin", admin]
        with _on(cores.proxy):
            process = subprocess.Popen(
                [sys.executable, "-m", "otel_agentperf", *command, "--store", str(store), *options],
                stderr=subprocess.DEVNULL,
                env={**os.environ, **environment},
            )
        with _ended(process):
            status = wait_ready(admin, process)
            relay, observer = status["relays"][0]["pid"], status["observer"]["pid"]
            if observer is not None:
                _unpin(observer)
            others = [] if observer is None else [observer]
            yield Stack(name, _port(listening), [relay], others, admin=admin)

    return start


@contextlib.contextmanager
def baseline(cores: Cores, address: str, work: Path) -> Iterator[Stack]:
    """Starlette and httpx."""
    with listen("127.0.0.1", 0) as sock:
        with _on(cores.proxy):
            command = [sys.executable, str(HERE / "baseline.py"), str(sock.fileno()), f"http://{address}"]
            process = subprocess.Popen(command, pass_fds=[sock.fileno()])
        with _ended(process):
            _answers(process, address_of(sock))
            yield Stack("starlette+httpx", _port(address_of(sock)), [process.pid], share=0.2)


def litellm_missing() -> str | None:
    """Why LiteLLM cannot take part, or None."""
    if _litellm() is None:
        return f"LiteLLM left out: it is not in ${PEERS} (python tests/peers/install.py DIR litellm)"
    return None


def _litellm() -> Path | None:
    found = Path(os.environ.get(PEERS, "/nonexistent")) / "litellm" / "bin" / "litellm"
    return found if found.exists() else None


def litellm(models: dict[str, str]):
    """LiteLLM's proxy with one worker; `models` maps a model's name to the path of its pace."""

    @contextlib.contextmanager
    def start(cores: Cores, address: str, work: Path) -> Iterator[Stack]:
        listening = _free_address()
        entries = [
            {
                "model_name": model,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": f"http://{address}{path}/v1",
                    "api_key": "sk-bench",
                },
            }
            for model, path in models.items()
        ]
        config = work / "litellm.json"
        # JSON is YAML.
        config.write_text(json.dumps({"model_list": entries, "litellm_settings": {"telemetry": False}}))
        host, _, port = listening.rpartition(":")
        command = [str(_litellm()), "--config", str(config), "--host", host, "--port", port, "--num_workers", "1"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "LITELLM", "OPENAI"))
        }
        environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
        with _on(cores.proxy):
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work
            )
        with _ended(process):
            _answers(process, listening, "/health/liveliness")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield Stack("litellm", _port(listening), [process.pid, *map(int, children)], share=0.1)

    return start


def wait_ready(admin: str, process: subprocess.Popen) -> dict:
    """The proxy's status once it is ready."""
    while True:
        if process.poll() is not None:
            sys.exit(f"the proxy ended with exit code {process.returncode} before it was ready")
        try:
            urlopen(f"http://{admin}/readyz", timeout=5).close()
            return status_of(admin)
        except OSError:
            time.sleep(0.1)


def status_of(admin: str) -> dict:
    """`/status`."""
    with urlopen(f"http://{admin}/status", timeout=10) as answer:
        return json.load(answer)
