"""Makes the README's picture of the report: `otel-agentperf demo --seconds 60`, then `python docs/picture.py`.

It needs Playwright and Chromium, as tests/browser does.
"""

import argparse
import shutil
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

WIDTH: Final = 1180
LAST: Final = "[data-plot=benchmark-1-ttft]"
"""The plot that ends the picture."""


def main() -> None:
    """Open the page and keep its beginning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?", default=Path("agentperf-demo/report.html"))
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "images" / "report.png")
    given = parser.parse_args()
    executable = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(given.page.resolve().as_uri())
        page.wait_for_function("document.documentElement.dataset.drawn === 'true'")
        box = page.locator(LAST).bounding_box()
        assert box is not None
        page.set_viewport_size({"width": WIDTH, "height": round(box["y"] + box["height"])})
        page.screenshot(path=given.output, timeout=120_000)
        browser.close()


if __name__ == "__main__":
    main()
