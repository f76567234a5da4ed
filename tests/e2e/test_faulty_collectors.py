"""A collector that is dead, silent, or refuses everything: calls, store and shutdown know nothing of it."""

import contextlib
import socket
import threading

import httpx
import pytest

CALL = {"model": "m", "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def serve(sock: socket.socket, held: list[socket.socket], answer: bytes) -> None:
    """Take connections, hold them, and answer each request's head, if with anything."""
    with contextlib.suppress(OSError):
        while True:
            peer, _ = sock.accept()
            held.append(peer)
            if answer:
                peer.recv(65536)
                peer.sendall(answer)
                peer.close()


@pytest.fixture
def collector(request):
    """Base URL of a collector of the kind that the test names."""
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    if request.param == "dead":
        sock.close()
        yield url
        return
    held: list[socket.socket] = []
    answer = b"" if request.param == "silent" else b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    thread = threading.Thread(target=serve, args=(sock, held, answer), daemon=True)
    thread.start()
    yield url
    # Closing alone does not wake a thread that waits in accept.
    sock.shutdown(socket.SHUT_RDWR)
    thread.join(20)
    for open_socket in (sock, *held):
        open_socket.close()


@pytest.mark.parametrize("collector", ["dead", "silent", "refusing"], indirect=True)
def test_nothing_but_the_export_suffers(endpoint, start_proxy, read_store, collector):
    proxy = start_proxy(endpoint[0], "--otlp-endpoint", collector, "--otlp-protocol", "http/protobuf")
    for _ in range(10):
        with httpx.stream("POST", f"{proxy.url}/v1/chat/completions", json=CALL, timeout=60) as response:
            assert [line for line in response.iter_lines() if line][-1] == "data: [DONE]"
    status = proxy.wait_until(lambda status: status["observer"]["stats"]["calls"] == {"ok": 10})
    assert status["relays"][0]["stats"]["channel"]["frames_dropped"] == 0
    with httpx.Client() as client:
        assert client.get(f"http://{proxy.admin}/readyz").status_code == 200
    proxy.stop()
    assert proxy.process.returncode == 0
    rows = read_store(proxy.store, "attempts")
    assert [row["status"] for row in rows] == ["ok"] * 10
