"""Completion in shells: what the installed script proposes, in a real shell where there is one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_agentperf.cli.main import main

COMMAND = Path(sys.executable).with_name("otel-agentperf")

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="the command is not installed beside this Python")


def script(shell: str) -> str:
    """What a shell reads to complete our command."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([COMMAND, "--show-completion", shell], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def proposed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """`proposed(*words)`: what the command proposes to bash when the last word is being typed."""

    def ask(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["otel-agentperf"])
        monkeypatch.setenv("_OTEL_AGENTPERF_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(("otel-agentperf", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            main()
        return capfd.readouterr().out.split()

    return ask


def test_commands_are_proposed(proposed: Callable[..., list[str]]) -> None:
    assert proposed("de") == ["demo"]
    assert {"turns", "tools", "trajectory", "trajectories", "tasks"} <= set(proposed("t"))


def test_options_and_their_values_are_proposed(proposed: Callable[..., list[str]]) -> None:
    assert proposed("turns", "--sin") == ["--since"]
    assert proposed("turns", "--format", "js") == ["json", "jsonl"]
    assert proposed("doctor", "--dialect", "me") == ["messages"]


def test_bash_reads_the_script() -> None:
    line = "COMP_WORDS=(otel-agentperf de); COMP_CWORD=1; _otel_agentperf_completion otel-agentperf"
    environment = {**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}
    text = f'{script("bash")}\n{line}\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "demo\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(shell: str, tmp_path: Path) -> None:
    text = script(shell)
    assert "_OTEL_AGENTPERF_COMPLETE" in text
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed; its script was made")
    (tmp_path / "script").write_text(text)
    subprocess.run([program, "-n", tmp_path / "script"], check=True)


def test_it_is_installed_for_the_user_alone(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [COMMAND, "--install-completion", "bash"], env=environment, capture_output=True, text=True, check=True
    )
    assert "bash completion installed" in done.stdout
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith("otel-agentperf")]
    assert file.read_text().strip() == script("bash").strip()
