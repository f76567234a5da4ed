"""What a plot is made of."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Chart"]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot with the data behind it."""

    id: str
    """Unique in a report; also the name of a file."""
    section: str
    """Heading that it stands under."""
    title: str
    caption: str
    """What is seen, over which population, and what of it is a sample."""
    spec: dict[str, Any]
    """Vega-Lite without data, size and configuration: its data are named `rows`, and `sample`."""
    rows: list[dict[str, Any]]
    """What is drawn, and told to those who want the numbers."""
    sample: list[dict[str, Any]]
    """Single turns that are drawn with it."""
    height: int
    is_wide: bool = False
    """It needs the whole width of the page."""
