"""The colours of `charts.style` on black."""

from typing import Final

__all__ = ["DARK"]

DARK: Final = {
    "paper": "#12161c",
    "ink": "#e6e9ee",
    "muted": "#9aa5b1",
    "line": "#2d343d",
    "good": "#56c271",
    "bad": "#ff7b72",
    "doubt": "#dfa52c",
    "series-1": "#5aa2ff",
    "series-2": "#f0954a",
    "series-3": "#b795f5",
    "series-4": "#3fc1b0",
    "series-5": "#ee7fb9",
    "series-6": "#9aa5b1",
    "wait": "#e8a62e",
    "prefill": "#cfae4a",
    "queue": "#e07b3c",
    "answer": "#5a9ef0",
    "unsplit": "#a48de6",
    "retry": "#f0635f",
    "tool": "#45b883",
    "subagent": "#cf7cb8",
    "harness": "#7d8894",
    "human": "#4b5560",
}
"""Text in `ink`, `muted`, `good`, `bad`, `doubt` has a contrast of 4.5 and more."""
