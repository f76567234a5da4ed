"""The image, as far as it can be checked without Docker."""

import fnmatch
import re
import tomllib

from shipped import DEPLOY, ROOT, call, needs

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
STEPS = re.findall(r"^([A-Z]+) (.+(?:\\\n.+)*)", DOCKERFILE, re.MULTILINE)


@needs("hadolint")
def test_hadolint_finds_nothing_to_say() -> None:
    done = call("hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_nobody() -> None:
    users = [text for step, text in STEPS if step == "USER"]
    assert users == ["10001:10001"]


def test_it_starts_our_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = (text for step, text in STEPS if step == "ENTRYPOINT")
    assert entry.strip('[]"') in scripts


def test_what_is_copied_exists_and_is_all_that_is_sent_to_the_builder() -> None:
    copied = [
        source
        for step, text in STEPS
        if step == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    ]
    assert all((ROOT / source).exists() for source in copied)
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied)


def test_packages_of_the_distribution_are_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = [text for step, text in STEPS if step == "COPY"]
    for package in packages:
        assert any(fnmatch.fnmatch(text.split()[0], package.split("/")[0]) for text in copied), package
