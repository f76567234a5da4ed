"""Relations over a store that grows: made anew for what changed only, the same as over a store read from scratch."""

import hashlib
import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import golden
import pytest
import zstandard

from otel_agentperf import semconv
from otel_agentperf_analyzers import Inputs, catalog, growth, open_source, relations
from otel_agentperf_analyzers.inputs import Deployment
from otel_agentperf_analyzers.sources import cache, store

Notation = Callable[[str], str]
Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def files_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done for many spans is done for these few."""
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    monkeypatch.setattr(store, "_WORTH_A_FILE", 4_000)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files of relations that were written, `.since-` in those of what changed."""
    seen: list[str] = []
    write = relations.Relations._write

    def noted(self: relations.Relations, query: str, path: Path) -> None:
        seen.append(path.name)
        write(self, query, path)

    monkeypatch.setattr(relations.Relations, "_write", noted)
    return seen


def compared(value: Any) -> Any:
    """Sums of floating-point numbers depend on their order in the last digits."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.9g}")
    if isinstance(value, dict):
        return tuple((key, compared(each)) for key, each in value.items())
    return tuple(map(compared, value)) if isinstance(value, list) else value


NAMES = [each.name for each in catalog.relations() if each.is_by_trajectory and each.name != "spans"]
NAMES += ["slo", "tasks", "undefined"]
"""What is made by trajectory, and some of what is made from it."""


def all_rows(path: Path, inputs: Inputs = Inputs()) -> Rows:
    """The rows of these, in one order."""
    found: Rows = {}
    with open_source(str(path), inputs=inputs) as database:
        for name in NAMES:
            table = database.relation(name).to_pylist()
            found[name] = sorted((tuple(map(compared, row.values())) for row in table), key=repr)
    return found


def from_scratch(path: Path, inputs: Inputs = Inputs()) -> Rows:
    """The same, of a copy that nothing was kept of."""
    copy = path.with_name(f"{path.name}-copy")
    shutil.copytree(path, copy, ignore=lambda directory, names: [name for name in names if name == cache.DIRECTORY])
    try:
        return all_rows(copy, inputs)
    finally:
        shutil.rmtree(copy)


def seal(path: Path) -> None:
    path.with_name(path.name + ".zst").write_bytes(zstandard.compress(path.read_bytes()))
    path.unlink()


def turns(first: int, last: int, trajectory: str = "t{}") -> str:
    """A call each, with a tool call before the next of its trajectory."""
    rows = []
    for number in range(first, last):
        name, index = trajectory.format(number // 4), number % 4
        rows.append(
            f"call t={number} traj={name} turn={index} first=0.2 last=0.6 end=0.7 in=100 out=20 tools=1"
            f" request=q{number}"
        )
        rows.append(f"tool t={number + 0.7}..{number + 0.9} traj={name} turn={index} id=c{number}")
    return "\n".join(rows)


@pytest.fixture
def spans(to_lines: Notation) -> Notation:
    """OTLP JSON lines of the notation; ids and traces that it does not name are unlike those of other calls."""
    given = 0

    def spans(notation: str) -> str:
        nonlocal given
        found = []
        for text in to_lines(notation).splitlines():
            document = json.loads(text)
            [span] = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
            given += 1
            if span["spanId"].startswith("0"):
                span["spanId"] = f"f{given:015x}"
            if span["traceId"] == "1".rjust(32, "0"):
                values = {each["key"]: each["value"].get("stringValue") for each in span["attributes"]}
                run = values.get(semconv.RUN_ID) or f"alone {given}"
                span["traceId"] = hashlib.sha256(run.encode()).hexdigest()[:32]
            found.append(json.dumps(document, separators=(",", ":")) + "\n")
        return "".join(found)

    return spans


def grown(names: Iterator[str] | list[str], relation: str) -> list[str]:
    return [name for name in names if name.startswith(f"{relation}-")]


def test_only_what_changed_is_made_again(tmp_path: Path, spans: Notation, made: list[str]) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    path = directory / "spans-a-0.jsonl"
    path.write_text(spans(turns(0, 200)))
    assert all_rows(directory) == from_scratch(directory)
    made.clear()
    with path.open("a") as file:
        file.write(spans(turns(200, 206)))
    found = all_rows(directory)
    for name in ("attempts", "turns", "tool_calls", "run_bounds", "time_shares", "trajectories", "runs"):
        [written] = grown(made, name)
        assert ".since-" in written, name
    assert found == from_scratch(directory)
    assert len(found["turns"]) == 206
    [touched] = (directory / cache.DIRECTORY).glob("*/results/*/touched.since-*.parquet")
    with open_source(str(directory)) as database:
        count = database.connection.execute(f"SELECT count(*) FROM read_parquet('{touched}')").fetchall()
    assert count == [(2,)]


@pytest.mark.timeout(600)
def test_link_keys_that_come_later_are_stitched(tmp_path: Path, spans: Notation, made: list[str]) -> None:
    def stitches() -> int:
        with open_source(str(directory)) as database:
            return database.relation("stitch").num_rows

    directory = tmp_path / "store"
    directory.mkdir()
    path = directory / "spans-a-0.jsonl"
    # More than the fleet's, so that it would pay to go on from what is made of them.
    path.write_text(spans(turns(0, 1200)))
    assert all_rows(directory) == from_scratch(directory)
    assert stitches() == 0
    with path.open("a") as file:
        file.write(spans(turns(1200, 1202)))
    made.clear()
    assert all_rows(directory) == from_scratch(directory)
    assert not grown(made, "stitch_calls")
    assert growth.SINCE in grown(made, "turns")[0]
    lines = golden.of_fleet(tmp_path / "fleet", 1_767_240_000).splitlines(keepends=True)
    half = len(lines) // 2
    for part in (lines[:half], lines[half:]):
        with path.open("a") as file:
            file.writelines(part)
        assert all_rows(directory) == from_scratch(directory)
    assert stitches() > 300
    made.clear()
    with path.open("a") as file:
        file.write(spans(turns(1202, 1204)))
    assert all_rows(directory) == from_scratch(directory)
    assert growth.SINCE in grown(made, "turns")[0]


@pytest.mark.timeout(600)
def test_layers_stay_few_however_often_a_store_is_read(tmp_path: Path, spans: Notation, made: list[str]) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    path = directory / "spans-a-0.jsonl"
    path.write_text(spans(turns(0, 160)))
    deepest = 0
    for step in range(12):
        with open_source(str(directory)) as database:
            assert database.query("SELECT count(*) AS n FROM turns").to_pylist() == [{"n": 160 + step * 2}]
            growing = database._relations._growth
            assert growing is not None
            [name] = {name.partition(growth.SINCE)[0].removesuffix(".parquet") for name in grown(made, "turns")}
            layers = growing.layers(name)
        assert layers is not None
        deepest = max(deepest, len(layers))
        with path.open("a") as file:
            file.write(spans(turns(160 + step * 2, 162 + step * 2)))
    whole = sum(growth.SINCE not in each for each in grown(made, "turns"))
    assert whole == 1
    assert 2 <= deepest <= 4
    kept = list((directory / cache.DIRECTORY).glob("*/results/*"))
    assert len(kept) <= deepest + 2


def test_results_of_a_store_that_grew_much_are_made_whole(tmp_path: Path, spans: Notation, made: list[str]) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    path = directory / "spans-a-0.jsonl"
    path.write_text(spans(turns(0, 20)))
    all_rows(directory)
    made.clear()
    with path.open("a") as file:
        file.write(spans(turns(20, 120)))
    assert all_rows(directory) == from_scratch(directory)
    assert not [name for name in made if growth.SINCE in name]


def test_a_price_per_hour_that_all_calls_share_makes_all_anew(tmp_path: Path, spans: Notation, made: list[str]) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    path = directory / "spans-a-0.jsonl"
    path.write_text(spans(turns(0, 40)))
    inputs = Inputs(deployment=Deployment(accelerators=2, price_per_hour=3.0))
    all_rows(directory, inputs)
    with path.open("a") as file:
        file.write(spans(turns(40, 42)))
    assert all_rows(directory, inputs) == from_scratch(directory, inputs)
    assert not [name for name in made if growth.SINCE in name]


def test_very_many_spans_come_to_the_same_in_parts(
    tmp_path: Path, spans: Notation, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    path = directory / "spans-a-0.jsonl"
    path.write_text(spans(turns(0, 60) + "\ncall t=90 traj=s1 parent=t1 turn=0 first=0.1 last=0.2 end=0.3 out=9"))
    wanted = from_scratch(directory)
    made.clear()
    monkeypatch.setattr(relations, "SPANS_OF_PART", 30)
    assert all_rows(directory) == wanted
    assert {"000-of-005.parquet", "004-of-005.parquet"} <= set(made)
    assert not grown(made, "turns")
    made.clear()
    with path.open("a") as file:
        file.write(spans(turns(60, 62)))
    assert all_rows(directory) == from_scratch(directory)
    assert growth.SINCE in grown(made, "turns")[0]


@pytest.mark.parametrize("harm", ["missing", "the last is missing", "cut", "flipped"])
def test_a_part_can_be_harmed(
    tmp_path: Path, spans: Notation, made: list[str], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(relations, "SPANS_OF_PART", 30)
    directory = tmp_path / "store"
    directory.mkdir()
    (directory / "spans-a-0.jsonl").write_text(spans(turns(0, 60)))
    with open_source(str(directory)) as database:
        wanted = sorted(map(repr, database.relation("turns").to_pylist()))
    [parts] = (directory / cache.DIRECTORY).glob("*/results/*/turns-*.parquet")
    files = sorted(parts.glob("*.parquet"))
    match harm:
        case "missing":
            files[1].unlink()
        case "the last is missing":
            files[-1].unlink()
        case "cut":
            files[1].write_bytes(files[1].read_bytes()[:-20])
        case "flipped":
            data = bytearray(files[1].read_bytes())
            data[len(data) // 3] ^= 255
            files[1].write_bytes(data)
    made.clear()
    with open_source(str(directory)) as database:
        assert sorted(map(repr, database.relation("turns").to_pylist())) == wanted
        [note] = database.notes
    assert str(parts) in note
    assert files[0].name in made
    made.clear()
    with open_source(str(directory)) as database:
        assert sorted(map(repr, database.relation("turns").to_pylist())) == wanted
        assert database.notes == ()
    assert made == []


@pytest.mark.parametrize(
    "harm", ["a layer", "the whole file below", "touched", "state", "rest", "rest is flipped", "spans below"]
)
def test_layers_can_be_harmed_at_any_time(tmp_path: Path, spans: Notation, harm: str) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    path = directory / "spans-a-0.jsonl"
    path.write_text(spans(turns(0, 100)))
    all_rows(directory)
    with path.open("a") as file:
        file.write(spans(turns(100, 104)))
    all_rows(directory)
    top = directory / cache.DIRECTORY
    patterns = {
        "a layer": "*/results/*/turns-*since*",
        "the whole file below": "*/results/*/turns-*[0-9a-f].parquet",
        "touched": "*/results/*/touched*",
        "state": "*/results/*/state.json",
        "rest": "*/results/*/rest.parquet",
        "rest is flipped": "*/results/*/rest.parquet",
        "spans below": "*/spans/*",
    }
    found = sorted(
        each for each in top.glob(patterns[harm]) if harm != "the whole file below" or "since" not in each.name
    )
    assert found
    for each in found:
        if harm in ("a layer", "state"):
            each.write_bytes(each.read_bytes()[:100])
        elif harm == "rest is flipped":
            data = bytearray(each.read_bytes())
            data[len(data) // 3] ^= 255
            each.write_bytes(data)
        else:
            each.unlink()
    with path.open("a") as file:
        file.write(spans(turns(104, 106)))
    assert all_rows(directory) == from_scratch(directory)


# --- Whatever happens -------------------------------------------------------------------------------------------------


class Story:
    """A store to which things happen; what other trajectories, clients, servers and retention have to do with it."""

    def __init__(self, directory: Path, spans: Notation, seed: int) -> None:
        self.directory = directory
        self.spans = spans
        self.random = random.Random(seed)
        self.number = 0
        self.segment = 0
        directory.mkdir()
        self.path.touch()

    @property
    def path(self) -> Path:
        return self.directory / f"spans-a-{self.segment}.jsonl"

    def write(self, notation: str) -> None:
        with self.path.open("a") as file:
            file.write(self.spans(notation))

    def grow(self) -> None:
        """Trajectories go on and begin."""
        count = self.random.randint(1, 6)
        self.write(turns(self.number, self.number + count))
        self.number += count

    def go_back(self) -> None:
        """An old trajectory goes on: a retry of its first turn, another turn, an outcome, a sub-agent."""
        old = self.random.randrange(max(self.number // 4, 1))
        t = self.number + 0.5
        self.write(
            self.random.choice(
                [
                    f"call t={t} traj=t{old} turn=0 attempt=1 first=0.1 last=0.2 end=0.3 out=9",
                    f"call t={t} traj=t{old} turn=9 first=0.1 last=0.2 end=0.3 out=9 outcome=success",
                    f"call t={t} traj=s{old} parent=t{old} turn=0 first=0.1 last=0.2 end=0.3 out=9",
                    f"run t={old}..{t} traj=t{old} status=abandoned",
                    f"span t={t}..{t} name=gen_ai.evaluation.result agentperf.trajectory.id=t{old}"
                    " agentperf.outcome=failure",
                ]
            )
        )

    def tell_again(self) -> None:
        """A client tells what the proxy has told, or will tell: calls, tools, or a session of its own."""
        near = max(self.number + self.random.randint(-8, 3), 0)
        t = self.number
        session = self.random.randint(0, 3)
        self.write(
            self.random.choice(
                [
                    f"span t={t}..{t + 1} trace=c{session} name=claude_code.llm_request session.id=s{session}"
                    f" gen_ai.request.model=m request_id=q{near} output_tokens=3",
                    f"span t={near}..{near + 0.8} trace=c{session} id=d{t:015x} name=claude_code.tool"
                    f" session.id=s{session} tool_name=Bash tool_use_id=c{near}",
                    f"span t={near}..{near + 0.75} trace=c{session} name=claude_code.tool.execution parent=d{t:015x}"
                    " success=false",
                    f"span t={t}..{t + 1} trace=e{session} name=chat gen_ai.operation.name=chat gen_ai.request.model=o"
                    " gen_ai.usage.output_tokens=5 agentperf.tool.call_count=1",
                ]
            )
        )

    def serve(self) -> None:
        """An inference server tells of a call."""
        latest = self.directory.glob("spans-*.jsonl")
        lines = [line for path in latest for line in path.read_text().splitlines() if '"chat m"' in line]
        if lines:
            [span] = json.loads(self.random.choice(lines))["resourceSpans"][0]["scopeSpans"][0]["spans"]
            self.write(
                f"span t={self.number}..{self.number + 1} kind=server name=llm_request trace={span['traceId']}"
                f" parent={span['spanId']} gen_ai.latency.time_in_queue=1 gen_ai.latency.time_to_first_token=2"
            )

    def repeat(self) -> None:
        """Spans are exported twice."""
        lines = self.path.read_text().splitlines(keepends=True)
        with self.path.open("a") as file:
            file.writelines(self.random.sample(lines, min(len(lines), 2)))

    def tear(self) -> None:
        with self.path.open("a") as file:
            file.write('{"resourceSpans":[\n')

    def seal(self) -> None:
        if self.path.stat().st_size:
            seal(self.path)
            self.segment += 1
            self.path.touch()

    def forget(self) -> None:
        """Retention takes the oldest segment."""
        sealed = sorted(self.directory.glob("*.zst"), key=lambda path: path.stat().st_mtime_ns)
        if len(sealed) > 2:
            sealed[0].unlink()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
def test_a_store_that_grew_reads_as_one_read_from_scratch(
    tmp_path: Path, spans: Notation, made: list[str], seed: int
) -> None:
    story = Story(tmp_path / "store", spans, seed)
    story.write(turns(0, 60))
    story.number = 60
    story.seal()
    happenings = [story.grow] * 4 + [story.go_back, story.tell_again, story.serve] * 2
    happenings += [story.repeat, story.tear, story.seal, story.forget]
    for step in range(3):
        for happening in story.random.choices(happenings, k=story.random.randint(3, 6)):
            happening()
        found = all_rows(story.directory)
        wanted = from_scratch(story.directory)
        for name, rows in wanted.items():
            assert found[name] == rows, (seed, step, name)
    assert [name for name in made if growth.SINCE in name]
