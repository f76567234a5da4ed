"""The protocol of the proxied port: uvicorn's HTTP/1.1, and the way out of it for WebSockets."""

from time import monotonic_ns
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_agentperf_proxy.relay import RECEIVED_NS
from otel_agentperf_proxy.tunnel import UPGRADE, ClientEnd, asks_for_websocket

_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


class RelayProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with three differences.

    - It notes when a request's head was read: before the application's task gets its turn.
    - A request that asks for a WebSocket gets a `ClientEnd` in its scope, which takes what comes from then on: until
      the request was refused, or for good.
    - A request that asks for any other protocol is a request (RFC 9110 7.8), body and all. The parser takes what
      follows such a head for the other protocol's; Java's client sends `Upgrade: h2c` with every first POST.
    """

    _upgrade: ClientEnd | None = None
    _bodyless = False
    """The parser reports an end of the request that is none."""
    _repeating = False
    """The parser is fed a head that was reported already."""

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._upgrade is not None:
            self._upgrade.received(data)
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as exc:
            if self._upgrade is None:
                self._read_body()
            if rest := data[exc.args[0] :]:
                self.data_received(rest)

    def eof_received(self) -> bool:  # type: ignore[override]
        return self._upgrade is not None and self._upgrade.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._upgrade is not None:
            self._upgrade.connection_lost()
        super().connection_lost(exc)

    # uvicorn

    def shutdown(self) -> None:
        if self._upgrade is None or not self._upgrade.accepted:
            super().shutdown()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        upgrade = self._upgrade
        if upgrade is not None and not upgrade.accepted and self.cycle.response_complete:
            # Refused: HTTP goes on.
            self._upgrade = None
            if (held := upgrade.held()) and not self.transport.is_closing():
                self.data_received(held)

    # httptools

    def on_message_begin(self) -> None:
        if not self._repeating:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._repeating:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._repeating:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._repeating:
            return
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[RECEIVED_NS] = monotonic_ns()
        if self.parser.should_upgrade():
            if asks_for_websocket(self.parser.get_method(), self.headers):
                scope[UPGRADE] = self._upgrade = ClientEnd(self.transport, self.flow, self._leave_http)
            else:
                self._bodyless = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._bodyless:
            super().on_message_complete()

    def _read_body(self) -> None:
        """Go on behind the head of a request that asked for another protocol: with a parser that was not asked."""
        self._bodyless = False
        framing = [b"%b: %b\r\n" % field for field in self.headers if field[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._repeating = True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))
        finally:
            self._repeating = False

    def _leave_http(self) -> None:
        """No response of HTTP is owed any more."""
        self.cycle.response_started = self.cycle.response_complete = True
        self.cycle.message_event.set()
