"""Where recordings lie: on disk, inside a wheel, in an installed package, bundled with this one."""

import zipfile
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from otel_agentperf.errors import SourceError

__all__ = ["bundled", "find", "replays_in"]

PACKAGE: Final = "agentperf_local"
"""The import package of agentperf-local. Only its data is read; it is never imported."""

PREFIX: Final = "agentperf-local"
"""Says explicitly that a replay comes from the installed package."""

_REPLAYS: Final = ("data", "replays")


def find(source: str) -> tuple[Traversable, str | None]:
    """The place of a source, and the name of the replay inside when the place may hold several.

    Raises:
        SourceError: there is no such place.
    """
    prefix, colon, name = source.rpartition(":")
    if (prefix if colon else source) == PREFIX:
        installed = _installed()
        if installed is None:
            raise SourceError(f"{source}: the package agentperf-local is not installed (pip install agentperf-local)")
        return installed, name if colon else None
    if Path(source).exists():
        return _opened(Path(source)), None
    if colon and Path(prefix).exists():
        return _opened(Path(prefix)), name
    ours = {place.name: place for place in bundled()}
    if source in ours:
        return ours[source], None
    installed = _installed()
    theirs = {place.name: place for place in replays_in(installed)} if installed is not None else {}
    if source in theirs:
        return theirs[source], None
    known = [*ours, *theirs]
    hint = "" if installed is not None else " (and the package agentperf-local is not installed)"
    raise SourceError(f"{source}: no such file or directory, nor a recording known as {', '.join(known)}{hint}")


def bundled() -> tuple[Traversable, ...]:
    """The recordings that come with this package."""
    return replays_in(files("otel_agentperf.replay").joinpath("recordings"))


def replays_in(place: Traversable) -> tuple[Traversable, ...]:
    """The directories inside a place, by name."""
    if not place.is_dir():
        return ()
    return tuple(sorted((entry for entry in place.iterdir() if entry.is_dir()), key=lambda entry: entry.name))


def _opened(path: Path) -> Traversable:
    """A path, or the replays inside it when it is a wheel."""
    if path.suffix != ".whl":
        return path
    try:
        root = zipfile.Path(path)
    except (OSError, zipfile.BadZipFile) as exc:
        raise SourceError(f"{path}: not a wheel: {exc}") from exc
    inside = root.joinpath(PACKAGE, *_REPLAYS)
    if not inside.is_dir():
        raise SourceError(f"{path}: a wheel without {'/'.join((PACKAGE, *_REPLAYS))}")
    return inside


def _installed() -> Traversable | None:
    spec = find_spec(PACKAGE)
    for location in (spec.submodule_search_locations if spec is not None else None) or ():
        place = Path(location, *_REPLAYS)
        if place.is_dir():
            return place
    return None
