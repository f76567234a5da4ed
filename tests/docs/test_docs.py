"""The documentation says what the code does: pages are up to date, command lines parse, links lead somewhere."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from otel_agentperf import semconv
from otel_agentperf.cli.main import app
from otel_agentperf.instruments import instruments

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(otel-agentperf [^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
_PLACEHOLDER = re.compile(r"\[[A-Z]+\]|\.\.\.")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(text: str) -> Iterator[tuple[str, ...]]:
    """Arguments of every call of our command, in code blocks and in inline code."""
    for language, block in _FENCE.findall(text):
        if language in ("sh", "bash", "shell", ""):
            for line in block.replace("\\\n", " ").splitlines():
                yield from _calls(line.removeprefix("$ "))
    for line in _INLINE.findall(_FENCE.sub("", text)):
        if not _PLACEHOLDER.search(line):
            yield from _calls(line)


def _calls(line: str) -> Iterator[tuple[str, ...]]:
    if "otel-agentperf" not in line:
        return
    lexer = shlex.shlex(line.partition(" # ")[0], posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not word.strip("();<>|&"):
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words and words[0].rpartition("/")[2] == "otel-agentperf":
                yield tuple(words[1:])
            words = []
        else:
            words.append(word)


CALLS = sorted({(name(path), call) for path in PAGES for call in calls(path.read_text(encoding="utf-8"))})


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("page", "call"), CALLS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_a_command_line_of_the_documentation_parses(page: str, call: tuple[str, ...]) -> None:
    command: Any = typer.main.get_command(app)
    words = list(call)
    if words and not words[0].startswith("-"):
        assert words[0] in command.commands, page
        command = command.commands[words.pop(0)]
        if "--help" not in words:
            command.make_context(command.name, words)


def test_command_lines_are_found() -> None:
    assert len(CALLS) > 20


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in _LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{target}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / target).resolve() for target, _ in _LINK.findall(index) if target}
    unlinked = {page for page in ROOT.glob("docs/*.md") if page.name != "README.md"} - linked
    assert not unlinked


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_attributes_named_in_the_text_exist(page: Path) -> None:
    known = {value for value in vars(semconv).values() if isinstance(value, str)}
    known |= {instrument.name for instrument in instruments()}
    named = set(re.findall(r"`((?:gen_ai|agentperf)\.[a-z0-9_.]*[a-z0-9])`", page.read_text(encoding="utf-8")))
    assert named <= known


def test_toml_examples_are_configurations() -> None:
    from otel_agentperf_proxy.config import ProxyConfig

    for page in PAGES:
        for language, block in _FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "toml" and "upstream" in block:
                keys = {key.replace("-", "_") for key in tomllib.loads(block)}
                assert keys <= set(ProxyConfig.__struct_fields__), name(page)
