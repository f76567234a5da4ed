"""The errors a user can meet: one tree, exit codes as documented, one line each."""

import pytest

from otel_agentperf import errors
from otel_agentperf.errors import AgentPerfError, ExitCode


def tree(kind: type[AgentPerfError]) -> list[type[AgentPerfError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


def test_all_is_complete() -> None:
    defined = {name for name, value in vars(errors).items() if getattr(value, "__module__", None) == errors.__name__}
    assert sorted(defined) == errors.__all__ == sorted(errors.__all__)


def test_the_module_draws_its_tree_with_the_exit_codes() -> None:
    assert errors.__doc__ is not None
    drawn = [line.strip(" │├└─").split() for line in errors.__doc__.splitlines() if "Error" in line]
    assert {words[0]: int(words[1]) for words in drawn} == {
        kind.__name__: kind.exit_code for kind in tree(AgentPerfError) if kind.__module__ == errors.__name__
    }


@pytest.mark.parametrize("kind", tree(AgentPerfError))
def test_the_text_is_the_message(kind: type[AgentPerfError]) -> None:
    assert str(kind("do this")) == "do this"
    assert isinstance(kind.exit_code, ExitCode)
    assert kind.exit_code != ExitCode.OK


def test_exit_codes_are_the_documented_numbers() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "NEGATIVE": 1,
        "USAGE": 2,
        "UNAVAILABLE": 3,
        "INTERRUPTED": 130,
    }
