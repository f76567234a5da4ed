"""Children end when told, and when their parent is gone, however that happened."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

from otel_agentperf.errors import UnavailableError
from otel_agentperf.processes import ChildProcess, address_of, listen

CHILD = """
import asyncio, os, signal, sys

async def good(control):
    control.answer("echo", lambda: {"payload": control.payload, "pid": os.getpid()})
    print("printed text is no part of the line")
    control.ready()
    await control.stop.wait()

async def accepting(control):
    control.ready()
    control.sockets[0].setblocking(False)
    connection, _ = await asyncio.get_running_loop().sock_accept(control.sockets[0])
    connection.send(b"hello")

async def stubborn(control):
    control.ready()
    while True:
        await asyncio.sleep(60)

async def failing(control):
    from otel_agentperf.errors import StoreError
    raise StoreError("no such luck")

async def orphan(control):
    control.ready()
    await control.cut.wait()
    open(control.payload["told"], "w").write("orphaned")
"""

PARENT = """
import asyncio, sys
from otel_agentperf.processes import ChildProcess

async def main():
    child = ChildProcess("children:orphan", {"told": sys.argv[1]})
    await child.ready()
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def children(tmp_path, monkeypatch):
    (tmp_path / "children.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


async def test_a_child_answers_and_ends_when_told():
    child = ChildProcess("children:good", {"a": [1, "x"]})
    assert await child.ready()
    assert await child.ask("echo") == {"payload": {"a": [1, "x"]}, "pid": child.pid}
    assert await child.ask("something else") is None
    assert child.exit_code is None
    assert await child.stop(20) == 0
    assert await child.ask("echo") is None


async def test_a_child_serves_an_inherited_socket():
    with listen("127.0.0.1", 0) as sock:
        child = ChildProcess("children:accepting", {}, [sock])
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        async with asyncio.timeout(20):
            assert await reader.read() == b"hello"
        writer.close()
        assert await child.wait(20) == 0


async def test_a_child_that_is_told_to_end_before_it_has_begun_still_does_its_work(tmp_path):
    child = ChildProcess("children:orphan", {"told": str(tmp_path / "told")})
    child.terminate()
    child.terminate()
    assert await child.wait(20) == 0
    assert (tmp_path / "told").exists()


async def test_a_child_that_does_not_end_is_killed():
    child = ChildProcess("children:stubborn", {})
    assert await child.ready()
    assert await child.stop(0.2) == -signal.SIGKILL


def test_a_child_of_a_caller_without_event_loop():
    child = ChildProcess("children:good", {})
    assert child.block_until_ready()
    assert child.block_until_ended(20) == 0
    stubborn = ChildProcess("children:stubborn", {})
    assert stubborn.block_until_ready()
    assert stubborn.block_until_ended(0.2) == -signal.SIGKILL
    failing = ChildProcess("children:failing", {})
    assert not failing.block_until_ready()
    assert failing.block_until_ended(20) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_whole_group_are_the_parents_affair(number):
    child = ChildProcess("children:good", {})
    os.kill(child.pid, number)
    assert await child.ready()
    os.kill(child.pid, number)
    assert (await child.ask("echo", 20))["pid"] == child.pid
    assert await child.stop(20) == 0


async def test_a_users_mistake_is_one_line_and_an_exit_code(capfd):
    child = ChildProcess("children:failing", {})
    assert not await child.ready()
    assert await child.wait(20) == 3
    assert capfd.readouterr().err == "otel-agentperf: no such luck\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_child_whose_parent_is_gone_ends(tmp_path, how):
    told = tmp_path / "told"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(told)], stdout=subprocess.PIPE)
    with parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(how)
    async with asyncio.timeout(20):
        while not told.exists() or _alive(pid):
            await asyncio.sleep(0.01)
    assert told.read_text() == "orphaned"


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_address_in_use_is_said_so():
    with listen("127.0.0.1", 0) as sock:
        address = address_of(sock)
        host, port = address.split(":")
        with pytest.raises(UnavailableError, match=f"cannot listen on {address}: address already in use"):
            listen(host, int(port))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_an_ipv6_address_is_in_brackets():
    with listen("::1", 0) as sock:
        assert address_of(sock).startswith("[::1]:")
