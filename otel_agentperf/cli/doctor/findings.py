"""What the doctor found, and how it is written."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Finding", "Verdict", "note", "ok", "problem", "render", "warning"]


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, nothing to repair."""
    WARNING = "warning"
    """Something may be wrong, or figures will be missing."""
    PROBLEM = "problem"
    """It does not work like this."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    """What was looked at; several findings may share it."""
    verdict: Verdict
    found: str
    advice: str | None = None
    """What to do; a problem and a warning always have it."""


def ok(check: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(check, Verdict.OK, found)


def note(check: str, found: str, advice: str | None = None) -> Finding:
    """Worth knowing."""
    return Finding(check, Verdict.NOTE, found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """It may be wrong."""
    return Finding(check, Verdict.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """It does not work like this."""
    return Finding(check, Verdict.PROBLEM, found, advice)


_STYLES: Final = {Verdict.OK: "green", Verdict.NOTE: "cyan", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}


def render(findings: Sequence[Finding], console: "Console") -> None:
    """Write the findings for people: a line each, what to do below it, and a sum at the end."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for finding in findings:
        words = Text(finding.found)
        if finding.advice is not None:
            words.append(f"\n→ {finding.advice}", style="bold")
        table.add_row(Text(finding.verdict, style=_STYLES[finding.verdict]), Text(finding.check), words)
    console.print(table)
    console.print(Text(f"\n{'; '.join(_sums(findings))}."))


def _sums(findings: Sequence[Finding]) -> Iterator[str]:
    for verdict, word in ((Verdict.PROBLEM, "problem"), (Verdict.WARNING, "warning")):
        number = sum(finding.verdict is verdict for finding in findings)
        yield f"{number or 'no'} {word}{'' if number == 1 else 's'}"
