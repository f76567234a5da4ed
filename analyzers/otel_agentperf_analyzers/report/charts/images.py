"""Plots as files of their own."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from otel_agentperf.errors import StoreError
from otel_agentperf_analyzers.report.charts.model import Chart
from otel_agentperf_analyzers.report.charts.style import LIGHT, resolved
from otel_agentperf_analyzers.report.charts.vega import converter, vega_lite

__all__ = ["ImageFormat", "write_images"]

WIDTH: Final = 640
WIDE: Final = 1000
"""Pixels."""

SCALE: Final = 2
"""Pixels of a PNG for each of the plot."""


class ImageFormat(StrEnum):
    """Ways to write a plot."""

    SVG = "svg"
    PNG = "png"


def write_images(charts: Sequence[Chart], directory: Path, form: ImageFormat) -> Iterator[Path]:
    """Write each plot as `ID.svg` or `ID.png`; what was written comes as it is.

    Raises:
        UsageError: vl-convert is not installed.
        StoreError: a file cannot be written.
    """
    vl_convert = converter()
    for chart in charts:
        spec = resolved(vega_lite(chart, width=WIDE if chart.is_wide else WIDTH))
        spec |= {"background": LIGHT["paper"], "title": {"text": chart.title, "anchor": "start", "offset": 12}}
        if form is ImageFormat.SVG:
            data = vl_convert.vegalite_to_svg(spec, show_warnings=False).encode()
        else:
            data = vl_convert.vegalite_to_png(spec, scale=SCALE, show_warnings=False)
        path = directory / f"{_file_name(chart.id)}.{form}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as exc:
            raise StoreError(f"cannot write {path}: {exc.strerror}") from exc
        yield path


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-._@" else "_" for letter in name)
