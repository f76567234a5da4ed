"""How a streamed body is cut into events."""

from typing import Final, Protocol

Event = tuple[bytes, bytes]
"""Event type (b"" when the framing has none or it was not said) and data."""


ERROR: Final = b"error"
"""Type of an event that tells an error."""


class Framing(Protocol):
    """Bytes in, events out; any split of the bytes gives the same events. Never raises."""

    skipped: int
    """Events that were too large to keep."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        ...

    def resumed(self) -> "Framing | None":
        """A framing for what follows a part that is missing; None when the stream cannot be taken up in its middle."""
        ...

    def finish(self) -> list[Event]:
        """What the end of the stream completes; its data may be cut off."""
        ...
