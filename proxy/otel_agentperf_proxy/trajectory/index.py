"""An index of things that are mostly alone under their key."""

from collections.abc import Collection
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Several(dict[_Value, None]):
    """More than one value, in the order in which they came."""


class Index(Generic[_Key, _Value]):
    """Values by key. A value that is alone is kept bare, since most are; where many share a key (equal prompts of
    thousands of agents), each is added and taken away in O(1) all the same."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[_Key, _Value | _Several[_Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: _Key, value: _Value) -> None:
        """Put a value under a key; once is enough."""
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = value
        elif isinstance(entry, _Several):
            entry[value] = None
        elif entry != value:
            self._entries[key] = _Several({entry: None, value: None})

    def discard(self, key: _Key, value: _Value) -> None:
        """Take a value away, if it is there."""
        entry = self._entries.get(key)
        if isinstance(entry, _Several):
            entry.pop(value, None)
            if len(entry) == 1:
                self._entries[key] = next(iter(entry))
        elif entry is not None and entry == value:
            del self._entries[key]

    def under(self, key: _Key) -> Collection[_Value]:
        """The values under a key, oldest first."""
        entry = self._entries.get(key)
        if entry is None:
            return ()
        return entry.keys() if isinstance(entry, _Several) else (entry,)
