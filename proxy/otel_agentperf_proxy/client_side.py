"""What an exchange is given of a client: the head of its request, and the way back to it."""

from typing import NamedTuple, Protocol

from otel_agentperf_proxy.headers import Headers
from otel_agentperf_proxy.tunnel import ClientEnd


class RequestHead(NamedTuple):
    """A request's head."""

    method: bytes
    path: bytes
    """As the client wrote it, without the query, below where the application is mounted."""
    query: bytes
    headers: Headers
    received_ns: int
    """Monotonic time at which it had been read."""
    upgrade: ClientEnd | None = None
    """Where the request asks for a WebSocket."""
    client: str = ""
    """The client's address, without its port."""
    framing: tuple[int | None, bool] | None = None
    """Its body's length, if told, and whether it is chunked, as `framing_of` has it; None: not looked at yet."""


class ClientSide(Protocol):
    """The client's side of an exchange; none of these calls waits."""

    def respond(self, status: int, fields: Headers) -> None:
        """Take the head of the response, whose body's framing is this side's affair. A `send` follows at once."""

    def send(self, data: bytes, complete: bool) -> None:
        """Send the head, if it is not sent yet, and a part of the body; `complete`: it is the last one."""

    def break_off(self) -> None:
        """The response will not be complete: end the connection so that the client knows."""

    def pause_reading(self) -> None:
        """Take no more of the request's body, but for what is on its way."""

    def resume_reading(self) -> None:
        """Take more of it again."""


def address_of_peer(peer: object) -> str:
    """A client's address without its port, of a socket or of an ASGI scope; empty when there is none."""
    return str(peer[0]) if isinstance(peer, tuple | list) and peer else ""
