"""ClickHouse's HTTP interface: one session, what a user may do in it, and what its queries cost."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec
import pyarrow as pa

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.clickhouse.cost import Cost
from otel_agentperf_analyzers.sources.backend import PASSWORD, USER, Address, Backend, connected

__all__ = ["Client", "Refused", "opened"]

_CODE: Final = "X-ClickHouse-Exception-Code"
_SUMMARY: Final = "X-ClickHouse-Summary"
_SESSION_S: Final = 600
"""Temporary tables of a client that died go after that time."""

_DENIED: Final = frozenset(("164", "497"))
"""READONLY, ACCESS_DENIED."""

_WISHES: Final = {
    "enable_http_compression": "1",
    # A long query shows that it lives.
    "send_progress_in_http_headers": "1",
}
"""Settings that help and change no answer; a user who may not change settings goes without."""


class Refused(SourceError):
    """The user may not do that."""


class _Summary(msgspec.Struct):
    read_rows: int = 0
    read_bytes: int = 0
    elapsed_ns: int = 0
    memory_usage: int | None = None


class _Rows(msgspec.Struct):
    data: list[list[Any]]


_SUMMARIES: Final = msgspec.json.Decoder(_Summary, strict=False)
_decode_rows: Final = msgspec.json.Decoder(_Rows).decode


@dataclass(slots=True)
class Client:
    """Queries of one session."""

    backend: Backend
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    settings: dict[str, str] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)

    def allowed(self) -> bool:
        """Take the settings that may be set; whether the user may at all make temporary tables."""
        names = ", ".join(f"'{name}'" for name in ("readonly", *_WISHES))
        try:
            rows = self.rows(f"SELECT name, value, readonly FROM system.settings WHERE name IN ({names})", "settings")
        except Refused:
            return True
        found = {name: (value, bool(is_fixed)) for name, value, is_fixed in rows}
        self.settings = {name: value for name, value in _WISHES.items() if not found.get(name, ("", True))[1]}
        return bool(found.get("readonly", ("0", False))[0] != "1")

    def table(self, sql: str, what: str) -> pa.Table:
        """Rows of a SELECT.

        Raises:
            Refused: the user may not.
            SourceError: it failed.
        """
        content = self.run(sql, what, form="ArrowStream")
        try:
            with pa.ipc.open_stream(content) as reader:
                return reader.read_all()
        except pa.ArrowInvalid as problem:
            raise self.backend.nonsense(f"no Arrow stream ({problem})") from problem

    def rows(self, sql: str, what: str) -> list[list[Any]]:
        """Rows of a small SELECT, numbers as they stand."""
        content = self.run(sql, what, form="JSONCompact")
        try:
            return _decode_rows(content).data
        except msgspec.DecodeError as problem:
            raise self.backend.nonsense(f"no rows of JSON ({problem})") from problem

    def run(self, sql: str, what: str, *, form: str = "Null") -> bytes:
        """Run a statement; what the server answers."""
        params = {
            **self.settings,
            "session_id": self.session,
            "session_timeout": str(_SESSION_S),
            "default_format": form,
            # An error in the middle is told by the status, then, and the summary is complete.
            "wait_end_of_query": "1",
        }
        response = self.backend.request("POST", "/", params=params, content=sql, answers=_is_its_own)
        if response.status_code != 200:
            raise self._failed(response)
        self._count(response, what)
        return response.content

    def _count(self, response: httpx.Response, what: str) -> None:
        try:
            summary = _SUMMARIES.decode(response.headers.get(_SUMMARY, "{}"))
        except msgspec.DecodeError:
            summary = _Summary()
        self.costs.append(
            Cost(
                what=what,
                read_rows=summary.read_rows,
                read_bytes=summary.read_bytes,
                elapsed_s=summary.elapsed_ns / 1e9,
                memory_bytes=summary.memory_usage,
            )
        )

    def _failed(self, response: httpx.Response) -> SourceError:
        code, said = response.headers.get(_CODE, ""), " ".join(response.text.split())
        said = said.removeprefix(f"Code: {code}. ").removeprefix("DB::Exception: ")[:400]
        kind = Refused if code in _DENIED else SourceError
        hint = _HINTS.get(code, "")
        return kind(f"{self.backend.address.url} refuses the query (code {code}): {said}{hint}")


_NARROW: Final = "; narrow it with --since and --until"
_LOG_IN: Final = f"; set {USER} and {PASSWORD}"
_HINTS: Final = {
    # Limits: TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES.
    **dict.fromkeys(("158", "159", "160", "241", "307", "396"), _NARROW),
    # UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, AUTHENTICATION_FAILED.
    **dict.fromkeys(("192", "193", "194", "516"), _LOG_IN),
}
"""What helps, by the code of the error."""


def _is_its_own(response: httpx.Response) -> bool:
    """Whether ClickHouse itself has answered: asked again it would say the same, or do twice what it began."""
    return _CODE in response.headers


@contextmanager
def opened(address: Address) -> Iterator[Client]:
    """A session with the server."""
    # How long a query may take is the server's to say.
    timeout = httpx.Timeout(None, connect=10.0)
    with connected(address, user_headers=("X-ClickHouse-User", "X-ClickHouse-Key"), timeout=timeout) as backend:
        yield Client(backend)
