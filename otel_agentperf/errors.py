"""The exceptions that a user can meet, each ending a command with one line on stderr and an exit code.

    AgentPerfError            1   the command ran and failed
    ├── UsageError            2   an option, a configuration value or an argument is wrong
    └── UnavailableError      3   something outside cannot be reached or read
        ├── SourceError       3   a trace source: missing, unreadable, or it answers nonsense
        ├── EndpointError     3   an inference endpoint or an upstream
        └── StoreError        3   the embedded store cannot be written

Library errors are translated where they are caught, with `raise ... from`.
"""

from enum import IntEnum

__all__ = [
    "AgentPerfError",
    "EndpointError",
    "ExitCode",
    "SourceError",
    "StoreError",
    "UnavailableError",
    "UsageError",
]


class ExitCode(IntEnum):
    """Exit status of every command."""

    OK = 0
    NEGATIVE = 1
    """The command ran and the answer is no: a tier missed or a comparison regressed, with `--check`."""
    USAGE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130


class AgentPerfError(Exception):
    """Base of all errors meant for the user; its text is one line that says what to do."""

    exit_code: ExitCode = ExitCode.NEGATIVE


class UsageError(AgentPerfError):
    """An option, a configuration value or an argument is wrong."""

    exit_code = ExitCode.USAGE


class UnavailableError(AgentPerfError):
    """Something outside this process cannot be reached or read."""

    exit_code = ExitCode.UNAVAILABLE


class SourceError(UnavailableError):
    """A trace source is missing, cannot be read, or answers nonsense."""


class EndpointError(UnavailableError):
    """An inference endpoint cannot be reached or does not do what is needed of it."""


class StoreError(UnavailableError):
    """The embedded trace store cannot be written."""
