"""The only changes that the proxy makes to header fields and paths."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf import semconv
from otel_agentperf_proxy.headers import (
    CREDENTIALS,
    HOP_BY_HOP,
    Headers,
    response_headers,
    take_apart,
    take_tags_from_path,
    without_secrets,
)
from otel_agentperf_proxy.trajectory.agents import RULES

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01".encode()


def test_other_fields_pass_in_their_order_with_their_duplicates() -> None:
    fields = [(b"x-b", b"2"), (b"cookie", b"a=1"), (b"x-a", b""), (b"x-b", b"1"), (b"cookie", b"caf\xe9")]
    assert take_apart(fields).headers == fields
    assert response_headers(fields) == fields


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_fields_of_the_connection_end_here(name: bytes) -> None:
    assert take_apart([(b"accept", b"*/*"), (name, b"x")]).headers == [(b"accept", b"*/*")]
    assert response_headers([(b"server", b"x"), (name, b"x")]) == [(b"server", b"x")]


@pytest.mark.parametrize("apart", [lambda fields: take_apart(fields).headers, response_headers])
def test_fields_named_by_connection_end_here(apart: object) -> None:
    fields = [(b"x-a", b"1"), (b"connection", b"X-A , close"), (b"x-b", b"2"), (b"connection", b"x-c"), (b"x-c", b"3")]
    assert apart(fields) == [(b"x-b", b"2")]  # type: ignore[operator]


@pytest.mark.parametrize("apart", [lambda fields: take_apart(fields).headers, response_headers])
def test_connection_cannot_take_away_how_the_body_is_read(apart: object) -> None:
    body = [(b"content-length", b"5"), (b"content-type", b"a/b"), (b"content-encoding", b"gzip")]
    names = b"content-length, Content-Type, content-encoding, keep-alive"
    assert apart([(b"connection", names), *body]) == body  # type: ignore[operator]


def test_what_the_proxy_sets_itself_is_taken_out_and_told() -> None:
    request = take_apart(
        [(b"host", b"proxy:4000"), (b"expect", b"100-continue"), (b"transfer-encoding", b"chunked"), (b"x", b"1")]
    )
    assert request.headers == [(b"x", b"1")]
    assert request.host == b"proxy:4000"
    assert request.chunked
    assert not take_apart([(b"content-length", b"5")]).chunked


def test_credentials_are_forwarded_and_joined_for_hashing() -> None:
    fields = [(b"x-api-key", b"k"), (b"authorization", b"Bearer t")]
    request = take_apart(fields)
    assert request.headers == fields
    assert request.credential == b"k\nBearer t\n"
    assert take_apart([(b"accept", b"*/*")]).credential == b""


# --- Trace context


@pytest.mark.parametrize(
    ("traceparent", "sampled"),
    [
        (VALID, True),
        (f"00-{TRACE}-{SPAN}-00".encode(), False),
        (f"00-{TRACE}-{SPAN}-03".encode(), True),
        (f"cc-{TRACE}-{SPAN}-01".encode(), True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like".encode(), True),
    ],
)
def test_a_valid_traceparent_is_the_parent(traceparent: bytes, sampled: bool) -> None:
    request = take_apart([(b"traceparent", traceparent), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")])
    assert request.headers == []
    assert request.parent is not None
    assert request.parent.trace_id.hex() == TRACE
    assert request.parent.span_id.hex() == SPAN
    assert request.parent.sampled is sampled
    assert request.parent.tracestate == "a=1,b=2"


@pytest.mark.parametrize(
    "traceparent",
    [
        b"",
        b"x",
        VALID[:-1],
        VALID + b"-more",
        VALID.upper(),
        b"ff" + VALID[2:],
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"cc-{TRACE}-{SPAN}-01.more".encode(),
        VALID + b"\n",
    ],
)
def test_an_invalid_traceparent_is_none_and_goes_no_further(traceparent: bytes) -> None:
    request = take_apart([(b"traceparent", traceparent), (b"tracestate", b"a=1"), (b"x", b"1")])
    assert request.parent is None
    assert request.headers == [(b"x", b"1")]


def test_two_traceparents_are_none() -> None:
    assert take_apart([(b"traceparent", VALID), (b"traceparent", VALID)]).parent is None


# --- Launcher tags


def test_launcher_headers_become_tags() -> None:
    request = take_apart(
        [
            (b"x-agentperf-trajectory-id", b"T 1"),
            (b"x-agentperf-agent-index", b"3"),
            (b"x-agentperf-task-domain", "caf\u00e9".encode()),
            (b"x-agentperf-unknown", b"1"),
            (b"x-agentperfect", b"1"),
        ]
    )
    assert request.tags == {"trajectory.id": "T 1", "agent.index": "3", "task.domain": "caf\u00e9"}
    assert request.headers == [(b"x-agentperfect", b"1")]


@pytest.mark.parametrize("tag", semconv.LAUNCHER_TAGS)
def test_every_tag_can_come_all_three_ways(tag: str) -> None:
    name = f"x-agentperf-{tag.replace('.', '-')}".encode()
    assert take_apart([(name, b"v")]).tags == {tag: "v"}
    assert take_apart([(b"baggage", f"agentperf.{tag}=v".encode())]).tags == {tag: "v"}
    tags: dict[str, str] = {}
    assert take_tags_from_path(f"/~/{tag}=v/v1".encode(), tags) == b"/v1"
    assert tags == {tag: "v"}


@pytest.mark.parametrize(
    ("baggage", "kept", "tags"),
    [
        (b"a=1", b"a=1", {}),
        (b"", b"", {}),
        (b" a = 1 ; p = 2 , b=x%20y,,", b" a = 1 ; p = 2 , b=x%20y,,", {}),
        (b"agentperf.level=8", None, {"level": "8"}),
        (b"agentperf.level = 8 ; p=q", None, {"level": "8"}),
        (b"a=1;p=q, agentperf.level=8 ,b = x%20y", b"a=1;p=q,b = x%20y", {"level": "8"}),
        (b"agentperf.level=8, a=1", b"a=1", {"level": "8"}),
        (b"agentperf.trajectory.id=a%2Cb%3Dc%C3%A9", None, {"trajectory.id": "a,b=c\u00e9"}),
        ("agentperf.trajectory.id=\u00e9".encode(), None, {"trajectory.id": "\u00e9"}),
        (b"agentperf.unknown=1,a=agentperf.level=8", b"a=agentperf.level=8", {}),
        (b"xagentperf.level=1", b"xagentperf.level=1", {}),
    ],
)
def test_our_baggage_entries_leave_and_the_others_stay_as_written(
    baggage: bytes, kept: bytes | None, tags: dict[str, str]
) -> None:
    request = take_apart([(b"baggage", baggage)])
    assert request.headers == ([] if kept is None else [(b"baggage", kept)])
    assert request.tags == tags


@pytest.mark.parametrize(
    ("path", "rest", "tags"),
    [
        (b"/v1/messages", b"/v1/messages", {}),
        (b"/~/level=8/v1/messages", b"/v1/messages", {"level": "8"}),
        (b"/~/level=8;trajectory.id=a%2Fb%3B%3D%25/v1", b"/v1", {"level": "8", "trajectory.id": "a/b;=%"}),
        (b"/~/trajectory%2Eid=caf%C3%A9;unknown=1;;x/v1", b"/v1", {"trajectory.id": "caf\u00e9"}),
        (b"/~/level=8", b"/", {"level": "8"}),
        (b"/~/level=8/", b"/", {"level": "8"}),
        (b"/~/level=/v1%2F%20//x", b"/v1%2F%20//x", {"level": ""}),
        (b"/~/a=b=c;phase=x=y/v1", b"/v1", {"phase": "x=y"}),
        (b"/~/home/v1", b"/~/home/v1", {}),
        (b"/~/", b"/~/", {}),
        (b"/~user/level=8/v1", b"/~user/level=8/v1", {}),
        (b"/v1/~/level=8/x", b"/v1/~/level=8/x", {}),
    ],
)
def test_a_path_prefix_is_taken_off(path: bytes, rest: bytes, tags: dict[str, str]) -> None:
    found: dict[str, str] = {}
    assert take_tags_from_path(path, found) == rest
    assert found == tags


OTHER_MEMBERS = st.lists(
    st.sampled_from([b"a=1", b" b = 2;p=q ", b"c=agentperf", b"d=%2C", b"e=", b"agent.perf=1", b"\xff=\xfe"]),
    max_size=6,
)
OUR_MEMBERS = st.lists(
    st.sampled_from([b"agentperf.level=1", b" agentperf.phase = steady ", b"agentperf.x=1"]), max_size=3
)


@given(others=OTHER_MEMBERS, ours=OUR_MEMBERS, seed=st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_baggage_of_others_survives_any_mixture(others: list[bytes], ours: list[bytes], seed: int) -> None:
    mixed: list[bytes] = list(others)
    rng = random.Random(seed)
    for member in ours:
        mixed.insert(rng.randint(0, len(mixed)), member)
    request = take_apart([(b"baggage", b",".join(mixed))])
    kept = request.headers[0][1] if request.headers else b""
    expected = b",".join(others)
    assert kept == (expected.strip() if ours else expected)


# --- Secrets


def test_secrets_stay_in_the_relay() -> None:
    secrets = [
        *CREDENTIALS,
        b"cookie",
        b"set-cookie",
        b"proxy-authorization",
        b"x-amz-security-token",
        b"x-goog-iap-jwt-assertion",
        b"cf-access-jwt-assertion",
        b"ocp-apim-subscription-key",
        b"x-client-secret",
        b"x-user-password",
        b"x-hub-signature-256",
        b"helicone-auth",
    ]
    public: Headers = [(b"user-agent", b"x"), (b"idempotency-key", b"x"), (b"content-type", b"x")]
    assert without_secrets([*((name, b"x") for name in secrets), *public]) == public


def test_no_identity_that_agents_send_is_mistaken_for_a_secret() -> None:
    names = {name for rule in RULES for name in rule.session}
    for rule in RULES:
        names |= {
            name
            for name in (rule.agent, rule.parent, rule.agent_type, rule.durations, rule.request_class, rule.metadata)
            if name is not None
        }
    fields = [(name, b"x") for name in sorted(names)]
    assert without_secrets(fields) == fields
