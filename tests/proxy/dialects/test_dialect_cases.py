"""The plain-text cases of `tests/cases/dialects`, as they are and cut into any pieces."""

import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy.dialects import MessageCache, find
from otel_agentperf_proxy.facts import RequestFacts, ResponseFacts

HISTORY = {"openai.responses": "input", "gemini.generate": "contents"}
"""Where a request of the dialect has its messages, unless in `messages`."""

CASES = Path(__file__).parents[2] / "cases" / "dialects"


@dataclass
class Case:
    method: str = ""
    path: str = ""
    request: bytes = b""
    status: int = 0
    content_type: str = ""
    parts: list[tuple[int, bytes]] = field(default_factory=list)
    request_facts: dict[str, Any] = field(default_factory=dict)
    response_facts: dict[str, Any] = field(default_factory=dict)
    echoes: list[bytes] = field(default_factory=list)


def load(path: Path) -> Case:
    case = Case()
    for section in path.read_text().split("\n=== ")[1:]:
        head, _, text = section.partition("\n")
        match head.split():
            case ["request", "facts"]:
                case.request_facts = json.loads(text)
            case ["response", "facts"]:
                case.response_facts = json.loads(text)
            case ["request", method, target]:
                case.method, case.path, case.request = method, target, text.encode()
            case ["response", status, *content_type]:
                case.status, case.content_type = int(status), " ".join(content_type)
                for line in text.splitlines(keepends=True):
                    if line.startswith("@"):
                        case.parts.append((int(line[1:]), b""))
                    else:
                        time_ns, data = case.parts[-1]
                        case.parts[-1] = time_ns, data + line.encode()
            case ["echo"]:
                case.echoes.append(text.encode())
            case _:
                raise ValueError(f"{path}: what is {head!r}?")
    return case


NAMES = sorted(path.stem for path in CASES.glob("*.txt"))
STREAMS = [name for name in NAMES if "-stream-" in name]


def case_of(name: str) -> Case:
    return load(CASES / f"{name}.txt")


def request_of(case: Case) -> RequestFacts:
    dialect = find(case.method, case.path)
    assert dialect is not None
    return dialect.parse_request(case.request)


def response_of(case: Case, parts: list[tuple[int, bytes]], *, content: bool = False) -> ResponseFacts:
    dialect = find(case.method, case.path)
    assert dialect is not None
    parser = dialect.response_parser(request_of(case), case.status, case.content_type, content=content)
    for time_ns, data in parts:
        parser.feed(time_ns, data)
    facts = parser.finish()
    assert parser.finish() is facts
    return facts


def named(value: Any, expected: Any) -> Any:
    """Of the facts, what the expectation names, in JSON's types."""
    if is_dataclass(value) and isinstance(expected, dict):
        assert set(expected) <= {item.name for item in fields(value)}
        return {name: named(getattr(value, name), item) for name, item in expected.items()}
    if isinstance(value, tuple | list):
        items = expected if isinstance(expected, list) and len(expected) == len(value) else [None] * len(value)
        return [named(item, wanted) for item, wanted in zip(value, items, strict=True)]
    return value


@pytest.mark.parametrize("name", NAMES)
def test_request_facts(name: str) -> None:
    case = case_of(name)
    facts = request_of(case)
    assert facts.problem is None
    assert named(facts, case.request_facts) == case.request_facts


@pytest.mark.parametrize("name", NAMES)
def test_request_facts_are_the_same_out_of_a_cache(name: str) -> None:
    case = case_of(name)
    dialect = find(case.method, case.path)
    assert dialect is not None
    cache = MessageCache()
    assert dialect.parse_request(case.request, cache=cache) == request_of(case)
    assert dialect.parse_request(case.request, cache=cache) == request_of(case)


@pytest.mark.parametrize("name", NAMES)
def test_response_facts(name: str) -> None:
    case = case_of(name)
    facts = response_of(case, case.parts)
    assert named(facts, case.response_facts) == case.response_facts


@pytest.mark.parametrize("name", [name for name in NAMES if case_of(name).echoes])
def test_the_answer_has_the_digest_of_the_message_that_repeats_it(name: str) -> None:
    case = case_of(name)
    dialect = find(case.method, case.path)
    assert dialect is not None
    answer = response_of(case, case.parts).message_digest
    assert answer is not None
    field = HISTORY.get(dialect.name, "messages").encode()
    for echo in case.echoes:
        facts = dialect.parse_request(b'{"' + field + b'": [' + echo + b"]}")
        assert facts.messages[0].digest == answer
        assert len(facts.messages) == 1 or dialect.name == "openai.responses"


def without_times(facts: ResponseFacts) -> ResponseFacts:
    return replace(facts, output_ns=[0] * len(facts.output_ns), first_answer_ns=facts.first_answer_ns and 1)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_split_gives_the_same_facts(data: st.DataObject) -> None:
    case = case_of(data.draw(st.sampled_from([name for name in NAMES if case_of(name).parts])))
    body = b"".join(part for _, part in case.parts)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=40).map(sorted))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    whole = response_of(case, case.parts, content=True)
    split = response_of(case, [(index + 1, piece) for index, piece in enumerate(pieces)], content=True)
    assert without_times(split) == without_times(whole)


@pytest.mark.parametrize("name", STREAMS)
def test_single_bytes_give_the_same_facts(name: str) -> None:
    case = case_of(name)
    body = b"".join(part for _, part in case.parts)
    split = response_of(case, [(index + 1, body[index : index + 1]) for index in range(len(body))])
    assert without_times(split) == without_times(response_of(case, case.parts))


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", STREAMS)
def test_other_line_ends_give_the_same_facts(name: str, line_end: bytes) -> None:
    case = case_of(name)
    if line_end == b"\r" and name.startswith("ollama"):
        pytest.skip("JSON lines end with a line feed")
    parts = [(time_ns, data.replace(b"\n", line_end)) for time_ns, data in case.parts]
    facts = response_of(case, parts)
    # A lone CR ends a line only with what follows it, so its times come with the next part or not.
    assert without_times(facts) == without_times(response_of(case, case.parts))
