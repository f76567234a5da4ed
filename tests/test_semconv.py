"""The vocabulary has one home, every name in it is explained, and nothing else is written or read.

Names of metrics live in `otel_agentperf.instruments`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_agentperf
import otel_agentperf_analyzers
import otel_agentperf_proxy
from otel_agentperf import instruments, semconv

PACKAGES = [
    Path(next(iter(package.__path__))) for package in (otel_agentperf, otel_agentperf_proxy, otel_agentperf_analyzers)
]
OURS = ("gen_ai.", "agentperf.")
KNOWN = ("gen_ai.", "agentperf.", "http.", "url.", "server.", "network.", "user_agent.", "error.")
ATTRIBUTE = re.compile(r"(gen_ai|agentperf)(\.[a-z0-9_]+)+")
QUOTED = re.compile(r"""["'](?P<name>(gen_ai|agentperf)(\.[a-z0-9_]+)+)["']""")

TREE = ast.parse(Path(semconv.__file__).read_text(encoding="utf-8"))


def constants(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Names of the constants of a module or class, and whether a docstring follows each."""
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            yield prefix + statement.target.id, documented
        elif isinstance(statement, ast.ClassDef):
            yield statement.name, ast.get_docstring(statement) is not None
            yield from constants(statement.body, f"{statement.name}.")


def attributes() -> dict[str, str]:
    """Constant name to attribute name."""
    return {
        name: value
        for name, value in vars(semconv).items()
        if isinstance(value, str)
        and value.startswith(KNOWN)
        and name.isupper()
        and not name.endswith("_PREFIX")
        and not name.startswith("SPAN_")
    }


def sources(*patterns: str) -> list[Path]:
    found = [path for package in PACKAGES for pattern in patterns for path in sorted(package.rglob(pattern))]
    return [path for path in found if path not in (Path(semconv.__file__), Path(instruments.__file__))]


def test_every_constant_is_explained() -> None:
    found = list(constants(TREE.body))
    assert len(found) > 80
    assert [name for name, documented in found if not documented] == []


def test_names_and_values_are_unique() -> None:
    values = list(attributes().values())
    assert sorted(values) == sorted(set(values))
    names = [name for name, _ in constants(TREE.body)]
    assert sorted(names) == sorted(set(names))


def test_names_follow_the_form_of_the_conventions() -> None:
    for value in attributes().values():
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*(\.[a-z][a-z0-9]*(_[a-z0-9]+)*)+", value), value


def test_no_name_is_also_the_start_of_another() -> None:
    """`a.b` beside `a.b.c` cannot be stored where attributes are nested."""
    values = {value for name, value in attributes().items() if not name.startswith("OLD_")}
    nested = {value for value in values for other in values if other.startswith(f"{value}.") and value.startswith(OURS)}
    assert not nested


def test_every_attribute_tells_its_type_first() -> None:
    lines = Path(semconv.__file__).read_text(encoding="utf-8").splitlines()
    types = ("string", "int", "double", "boolean", "string[]")
    for name in attributes():
        at = next(index for index, line in enumerate(lines) if line.startswith(f"{name}: Final"))
        told = re.match(r'"""([a-z\[\]]+)[;,. ]', lines[at + 1])
        assert told, name
        assert told[1] in types, name


def test_metrics_have_attributes_of_the_vocabulary_and_names_of_their_own() -> None:
    named = {name for instrument in instruments.instruments() for name in instrument.attributes}
    known = {value for value in vars(semconv).values() if isinstance(value, str)}
    assert named <= known
    assert set(instruments.LIMITS) <= named
    names = {instrument.name for instrument in instruments.instruments()}
    assert not names & known
    assert all(name.startswith(OURS) for name in names)


def test_launcher_tags_are_attributes() -> None:
    assert set(semconv.LAUNCHER_TAGS.values()) <= set(attributes().values())


@pytest.mark.parametrize("path", sources("*.py"), ids=lambda path: path.name)
def test_no_attribute_name_is_written_out_elsewhere(path: Path) -> None:
    found = [
        f"{path.name}:{node.lineno}: {node.value}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ATTRIBUTE.fullmatch(node.value)
    ]
    assert found == []


@pytest.mark.parametrize("path", sources("*.sql", "*.py"), ids=lambda path: path.name)
def test_sql_names_only_attributes_that_exist(path: Path) -> None:
    names = {match["name"] for match in QUOTED.finditer(path.read_text(encoding="utf-8"))}
    events = {semconv.SPAN_EVALUATION}
    assert names - events - set(attributes().values()) == set()
