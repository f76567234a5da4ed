"""Recordings by name or by place: `load` finds the place, and the format that reads it.

A format is one module with one class of `base.Format`; it is added to `formats`. A later one never takes what an
earlier one recognises.
"""

from collections.abc import Sequence
from importlib.resources.abc import Traversable
from typing import Final

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.agentperf_local import AgentPerfLocal
from otel_agentperf.replay.formats.atif import ATIF
from otel_agentperf.replay.formats.base import Format
from otel_agentperf.replay.formats.mooncake import Mooncake
from otel_agentperf.replay.formats.openhands import OpenHands
from otel_agentperf.replay.formats.places import bundled, find, replays_in
from otel_agentperf.replay.formats.store import Store
from otel_agentperf.replay.formats.swe_agent import MiniSWEAgent, SWEAgent
from otel_agentperf.replay.formats.weka import Weka
from otel_agentperf.replay.recording import Recording
from otel_agentperf.replay.vocabulary import FourByteVocabulary, Vocabulary

__all__ = ["DEFAULT_REPLAY", "FORMAT_NAMES", "Format", "bundled", "formats", "load"]


def formats(vocabulary: Vocabulary | None = None) -> tuple[Format, ...]:
    """All formats; those that keep no words have them made from the vocabulary."""
    words = vocabulary or FourByteVocabulary()
    return (
        Store(words),
        MiniSWEAgent(words),
        SWEAgent(words),
        Weka(words),
        ATIF(words),
        OpenHands(words),
        Mooncake(words),
        AgentPerfLocal(),
    )


FORMAT_NAMES: Final = tuple(each.name for each in formats())

DEFAULT_REPLAY: Final = "agentperf-default-v1"
"""Taken from a package or directory of several replays when none is named: the one that results are compared on."""


def load(source: str, vocabulary: Vocabulary | None = None) -> Recording:
    """Read a recording.

    Args:
        vocabulary: what a token is, for recordings that keep lengths and no words; four bytes without.
        source: a directory or manifest; a wheel of agentperf-local, or a directory of replays, either with `:NAME`
            when it holds several; the name of a bundled recording; the name of a replay in the installed package
            agentperf-local, also written `agentperf-local:NAME`.

    Raises:
        SourceError: nothing of that name, or it is malformed; names file and line.
    """
    try:
        place, name = find(source)
        known = formats(vocabulary)
        for candidate in known:
            if name is None and candidate.recognises(place):
                return candidate.load(place)
        return _load_from(place, source, name, known)
    except (OSError, ValueError) as exc:
        # A name that no file can have, or a directory that may not be listed.
        raise SourceError(f"{source}: {getattr(exc, 'strerror', None) or exc}") from exc


def _load_from(collection: Traversable, source: str, name: str | None, known: Sequence[Format]) -> Recording:
    """One replay out of a directory of several."""
    replays = {
        place.name: (candidate, place)
        for place in replays_in(collection)
        for candidate in reversed(known)
        if candidate.recognises(place)
    }
    if not replays:
        raise SourceError(f"{source}: not a recording in a known format ({', '.join(FORMAT_NAMES)})")
    if name is None:
        name = next(iter(replays)) if len(replays) == 1 else DEFAULT_REPLAY
    if name not in replays:
        base = source.removesuffix(f":{name}")
        raise SourceError(f"{base}: no replay named {name!r}; write {base}:NAME with one of {', '.join(replays)}")
    candidate, place = replays[name]
    return candidate.load(place)
