"""The library as docs/library.md shows it, run; and frames."""

import re
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pyarrow as pa
import pytest

import otel_agentperf_analyzers as analyzers
from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers import frames

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text()


def block(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the stores and files that the page names."""
    spec = spec_from_file_location("small_store", ROOT / "tests" / "cli" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    small = module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "small_store", small)
    spec.loader.exec_module(small)
    for name in ("agentperf-store", "before", "after"):
        small.two_agents().write(tmp_path / name)
    (tmp_path / "prices.toml").write_text(block("toml")[0])
    (tmp_path / "outcomes.csv").write_text(block("csv")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_page_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    names: dict[str, object] = {}
    for code in block("python"):
        exec(compile(code, "docs/library.md", "exec"), names)
    told = capsys.readouterr().out
    assert "the data cannot say" in told
    assert "gpt-oss-120b 0.5 " in told
    assert "ttft_p50 0.0 None None too few" in told


TABLE = pa.table(
    {
        "n": pa.array([1, None]),
        "s": pa.array([0.5, None]),
        "b": pa.array([True, None]),
        "t": pa.array([datetime(2026, 1, 1, tzinfo=UTC), None]),
        "x": pa.array(["a", None]),
    }
)


def test_whole_numbers_with_nulls_stay_whole_in_pandas() -> None:
    pytest.importorskip("pandas")
    frame = frames.to_pandas(TABLE)
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "float64", "boolean", "datetime64[us, UTC]", "string"]
    assert frame["n"][0] == 1


def test_polars_has_the_same_rows() -> None:
    pytest.importorskip("polars")
    assert frames.to_polars(TABLE).to_dicts() == TABLE.to_pylist()


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_library_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(UsageError, match=rf"{name} is not installed; pip install 'otel-agentperf\[{name}\]'"):
        getattr(analyzers, f"to_{name}")(TABLE)
