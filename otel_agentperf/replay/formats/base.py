"""What a format of recordings is."""

from importlib.resources.abc import Traversable
from typing import Protocol

from otel_agentperf.replay.recording import Recording

__all__ = ["Format"]


class Format(Protocol):
    """Reads recordings of one kind. A place is a path on disk or inside a wheel."""

    name: str

    def recognises(self, place: Traversable) -> bool:
        """Whether the place looks like a recording of this format, judged by names and first bytes."""

    def load(self, place: Traversable) -> Recording:
        """Read the recording.

        Raises:
            SourceError: names file and line of what is wrong.
        """
