"""Chromium, driven by Playwright: Debian's `chromium-headless-shell` or `chromium` will do, or
`$OTEL_AGENTPERF_CHROMIUM`."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Where it is."""
    named = os.environ.get("OTEL_AGENTPERF_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the tests of a module: as long as it runs, so does an event loop, beside which no other can."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = chromium()
    if executable is None:
        pytest.skip(f"no Chromium on this machine (apt-get install {NAMES[0]})")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Opened:
    """A page, and what it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Open a file; keyword arguments are those of a browser's context."""
    contexts = []

    def open_(file: Path, **options: Any) -> Opened:
        context = browser.new_context(**options)
        contexts.append(context)
        it = Opened(context.new_page())
        it.page.on("console", lambda message: it.said.append(f"{message.type}: {message.text}"))
        it.page.on("pageerror", lambda error: it.said.append(f"error: {error}"))
        it.page.on("dialog", lambda dialog: (it.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        it.page.on("request", lambda request: it.asked.append(request.url))
        it.page.goto(file.as_uri())
        if options.get("java_script_enabled", True):
            it.page.wait_for_function("document.documentElement.dataset.drawn === 'true'")
        return it

    yield open_
    for context in contexts:
        context.close()
