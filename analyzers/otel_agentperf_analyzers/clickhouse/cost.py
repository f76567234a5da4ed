"""What queries cost a server that computes the relations."""

import msgspec

__all__ = ["Cost", "Estimate"]


class Cost(msgspec.Struct, kw_only=True, frozen=True):
    """What a query has read, as the server counts it."""

    what: str
    """The relation, or part of one, that it made, or `rows` of the result."""
    read_rows: int
    read_bytes: int
    elapsed_s: float
    memory_bytes: int | None
    """At its peak, where the server tells."""


class Estimate(msgspec.Struct, kw_only=True, frozen=True):
    """What of a table a query for the spans of a period has to read."""

    table: str
    parts: int
    rows: int
    marks: int
    """Of a few thousand rows each; the smallest pieces that are read."""
