"""What the doctor says of settings, of the store, and of recorded calls."""

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from otel_agentperf import semconv
from otel_agentperf.cli.doctor import clients, here, running
from otel_agentperf.cli.doctor.findings import Finding, Verdict
from otel_agentperf.cli.doctor.network import same_place
from otel_agentperf.cli.doctor.traffic import recorded
from otel_agentperf_proxy.store import prepare

PROXY = ("127.0.0.1", 4000)


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict in (Verdict.WARNING, Verdict.PROBLEM)]


def only(findings: list[Finding]) -> Finding:
    (finding,) = bad(findings)
    assert finding.advice
    return finding


# --- Clients


@pytest.mark.parametrize(
    ("variable", "url", "verdict", "words"),
    [
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4000", Verdict.OK, "leads to the proxy"),
        ("ANTHROPIC_BASE_URL", "http://localhost:4000/", Verdict.OK, "leads to the proxy"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4000/v1", Verdict.PROBLEM, "/v1/v1/"),
        ("ANTHROPIC_BASE_URL", "https://api.anthropic.com", Verdict.WARNING, "past the proxy"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:4000/v1", Verdict.OK, "leads to the proxy"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:4000", Verdict.PROBLEM, "lacks /v1"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1", Verdict.WARNING, "past the proxy"),
        ("OPENAI_BASE_URL", "http://[::1", Verdict.PROBLEM, "is no URL"),
        ("OLLAMA_HOST", "127.0.0.1:4000", Verdict.OK, "leads to the proxy"),
    ],
)
def test_a_variable_of_a_client(variable: str, url: str, verdict: Verdict, words: str, tmp_path: Path) -> None:
    (setting,) = clients.settings_of({variable: url}, tmp_path, tmp_path)
    finding = clients.judged(setting, PROXY)
    assert finding.verdict is verdict
    assert words in finding.found
    assert verdict is Verdict.OK or "127.0.0.1:4000" in str(finding.advice)


def test_files_of_clients_are_read(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    for path, text in {
        home / ".claude/settings.json": '{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:4000"}}',
        project / ".claude/settings.local.json": "not JSON",
        home / ".codex/config.toml": 'model_provider = "mine"\n[model_providers.mine]\nbase_url = "http://h:1/v1"\n',
        project / "opencode.json": '{"provider": {"local": {"options": {"baseURL": "http://127.0.0.1:4000"}}, "x": 1}}',
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {setting.client: setting.url for setting in clients.settings_of({}, home, project)}
    assert found == {
        "Claude Code": "http://127.0.0.1:4000",
        "Codex": "http://h:1/v1",
        "opencode": "http://127.0.0.1:4000",
    }


def test_without_a_client_the_settings_to_make_are_told(tmp_path: Path) -> None:
    (finding,) = clients.clients({}, tmp_path, tmp_path, ("0.0.0.0", 4000))
    assert finding.verdict is Verdict.NOTE
    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:4000 " in str(finding.advice)


def test_a_proxy_of_the_environment_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://corporate.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    finding = only(list(clients.clients({}, tmp_path, tmp_path, PROXY)))
    assert "corporate.example" in finding.found
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert not bad(list(clients.clients({}, tmp_path, tmp_path, PROXY)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("127.0.0.1", 4000), ("127.0.0.1", 4000), True),
        (("localhost", 4000), ("127.0.0.1", 4000), True),
        (("127.0.0.1", 4000), ("0.0.0.0", 4000), True),
        (("127.0.0.1", 4000), ("127.0.0.1", 4001), False),
        (("192.0.2.1", 4000), ("0.0.0.0", 4000), False),
        (("no-such-host.invalid", 4000), ("127.0.0.1", 4000), False),
    ],
)
def test_whether_a_name_reaches_a_listener(one: tuple[str, int], other: tuple[str, int], same: bool) -> None:
    assert same_place(one, other) is same


# --- This machine


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finding = only(list(here.listening("listen", "127.0.0.1", port)))
    assert "taken by another program" in finding.found
    assert f":{port}" in str(finding.advice)
    assert not bad(list(here.listening("listen", "127.0.0.1", port)))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_told(host: str) -> None:
    assert "no address of this machine" in only(list(here.listening("admin", host, 4001))).found


def test_misspelt_settings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_AGENTPERF_WORKER", "2")
    assert "OTEL_AGENTPERF_WORKER is no setting" in [finding.found for finding in here.settings()]


def test_a_store_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    findings = list(here.store(tmp_path / "new" / "store"))
    assert not bad(findings)
    assert "not there yet" in findings[0].found
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_there(tmp_path: Path) -> None:
    prepare(tmp_path / "store")
    assert "can be written" in next(here.store(tmp_path / "store")).found
    (tmp_path / "store" / "store.json").write_text('{"format": 99, "salt": ""}')
    assert "format 99" in only(list(here.store(tmp_path / "store"))).found
    (tmp_path / "store" / "store.json").write_text("torn")
    assert "damaged" in only(list(here.store(tmp_path / "store"))).found


def test_a_store_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "no directory" in only(list(here.store(tmp_path / "file" / "store"))).found


@pytest.mark.skipif(os.geteuid() != 0, reason="an unwritable file system needs root's /proc to try it with")
def test_a_store_that_cannot_be_written_is_told() -> None:
    assert "cannot be written" in only(list(here.store(Path("/proc/self")))).found


# --- What was recorded


def told(spans: object, place: Path) -> list[Finding]:
    spans.write(place / "store")
    return list(recorded(str(place / "store"), None))


def test_good_traffic_is_good(spans, tmp_path):
    for turn in range(3):
        spans.call("anna", turn, 3 * turn)
    assert not bad(told(spans, tmp_path))


def test_nothing_recorded_is_a_note(tmp_path):
    (tmp_path / "store").mkdir()
    (finding,) = recorded(str(tmp_path / "store"), None)
    assert finding.verdict is Verdict.NOTE


@pytest.mark.parametrize(
    ("share", "attributes", "words", "advice"),
    [
        (1.0, {semconv.HTTP_RESPONSE_STATUS_CODE: 401, semconv.STATUS: "error"}, "were refused", "API key"),
        (1.0, {semconv.HTTP_RESPONSE_STATUS_CODE: 404, semconv.STATUS: "error"}, "no such path or model", "/v1"),
        (0.5, {semconv.HTTP_RESPONSE_STATUS_CODE: 429, semconv.STATUS: "error"}, "rate limit", "fewer agents"),
        (0.5, {semconv.HTTP_RESPONSE_STATUS_CODE: 503, semconv.STATUS: "error"}, "failed at the server", "log"),
        (0.5, {semconv.STATUS: "truncated"}, "broke off", "time limits"),
        (0.8, {semconv.GEN_AI_REQUEST_STREAM: False}, "not streamed", '"stream": true'),
        (0.8, {semconv.CHUNK_COUNT: 1}, "in one piece", "proxy_buffering"),
        (0.5, {semconv.USAGE_SOURCE: semconv.USAGE_ESTIMATED}, "without token counts", "--ask-usage"),
        (1.0, {semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: None}, "from the cache", "--enable-prompt-tokens-details"),
        (1.0, {semconv.PROXY_OVERHEAD_S: 0.2}, "the proxy added 200 ms", "--workers"),
    ],
)
def test_a_pattern_in_the_traffic_is_told(spans, tmp_path, share, attributes, words, advice):
    for turn in range(10):
        spans.call("anna", turn, 3 * turn, **(attributes if turn < 10 * share else {}))
    (finding,) = [finding for finding in told(spans, tmp_path) if finding.verdict is not Verdict.OK]
    assert words in finding.found
    assert advice in str(finding.advice)


def test_a_single_failure_is_no_pattern(spans, tmp_path):
    for turn in range(40):
        spans.call("anna", turn, 3 * turn, status="error" if turn == 7 else "ok")
    assert not bad(told(spans, tmp_path))


def test_a_doubled_prefix_is_told(spans, tmp_path):
    for second in range(3):
        path = {semconv.URL_PATH: "/v1/v1/chat/completions", semconv.HTTP_RESPONSE_STATUS_CODE: 404}
        spans.add("POST", second, second + 0.1, path)
    finding = only(told(spans, tmp_path))
    assert finding.verdict is Verdict.PROBLEM
    assert "3 requests went to /v1/v1/chat/completions" in finding.found


def test_requests_that_are_no_inference_calls_are_told(spans, tmp_path):
    spans.add("POST", 0, 1, {semconv.URL_PATH: "/api/paas/v4/chat", semconv.HTTP_RESPONSE_STATUS_CODE: 404})
    assert "/api/paas/v4/chat (404)" in only(told(spans, tmp_path)).found


def test_agents_without_identities_that_work_together_are_told(spans, tmp_path):
    guessed = {semconv.TRAJECTORY_SOURCE: semconv.Source.PREFIX}
    for turn in range(3):
        spans.call("anna", turn, 3 * turn, **guessed)
        spans.call("bert", turn, 3 * turn + 1, **guessed)
    finding = only(told(spans, tmp_path))
    assert "2 of 2 trajectories are told apart by their messages alone" in finding.found
    assert "x-agentperf-trajectory-id" in str(finding.advice)


def test_a_known_agent_that_sends_no_id_is_told(spans, tmp_path):
    sent = {semconv.TRAJECTORY_SOURCE: semconv.Source.HEADER, semconv.USER_AGENT_ORIGINAL: "opencode/1.18.33"}
    lost = {semconv.TRAJECTORY_SOURCE: semconv.Source.PREFIX, semconv.USER_AGENT_ORIGINAL: "claude-cli/2.1.197 (cli)"}
    for turn in range(3):
        spans.call("anna", turn, 3 * turn, **sent)
        spans.call("bert", turn, 100 + 3 * turn, **lost)
    finding = only(told(spans, tmp_path))
    assert "Claude Code (claude-cli/2.1.197 (cli)) sends none of the ids" in finding.found


def test_many_trajectories_of_one_call_are_told(spans, tmp_path):
    for number in range(6):
        spans.call(f"lone-{number}", 0, 10 * number, **{semconv.TRAJECTORY_SOURCE: semconv.Source.NEW})
    assert "6 of these have one call only" in only(told(spans, tmp_path)).found


def test_calls_from_the_future_are_told(spans, tmp_path):
    ahead_s = (datetime.now(UTC) - datetime(2026, 7, 31, 12, tzinfo=UTC)).total_seconds() + 600
    spans.call("anna", 0, ahead_s)
    assert "in the future" in only(told(spans, tmp_path)).found


def test_unreadable_lines_are_told(spans, tmp_path):
    spans.call("anna", 0, 0)
    spans.lines += ["{torn", json.dumps({"resourceSpans": []})]
    assert "1 lines cannot be read" in only(told(spans, tmp_path)).found


# --- The proxy that runs


def status(**changes: object) -> dict[str, object]:
    channel = {"frames_dropped": 0, "calls_lost": 0}
    stats = {"inflight": 0, "outcomes": {"complete": 5}, "errors": {}, "channel": channel}
    observer = {"store": {"failing": None, "spans_lost": 0}, "export": None, "problems": {}}
    found = {
        "version": running.__version__,
        "state": "ready",
        "uptime_s": 60.0,
        "relays": [{"pid": 1, "stats": {**stats, **changes.pop("relay", {})}}],
        "relay_restarts": 0,
        "observer": {"pid": 2, "restarts": 0, "stats": {**observer, **changes.pop("observer", {})}},
    }
    return {**found, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"relay": {"outcomes": {}}}, "no client has called it"),
        ({"relay": {"errors": {"connect": 3}}}, "connect 3"),
        ({"relay": {"channel": {"frames_dropped": 9, "calls_lost": 0}}}, "9 observations were dropped"),
        ({"relay_restarts": 2}, "relays were replaced 2 times"),
        ({"version": "0.0.1"}, "version 0.0.1 runs"),
        ({"state": "stopping"}, "it is stopping"),
        ({"observer": {"store": {"failing": "disk full", "spans_lost": 1}}}, "not written: disk full"),
        ({"observer": {"store": {"failing": None, "spans_lost": 3}}}, "3 spans could not be written"),
        ({"observer": {"export": {"failing": "refused", "spans_dropped": 0}}}, "not exported: refused"),
        ({"observer": {"export": {"failing": None, "spans_dropped": 4}}}, "4 spans were dropped"),
    ],
)
def test_what_troubles_a_proxy_is_told(changes: dict[str, object], words: str) -> None:
    assert words in only(list(running.at_work(status(**changes), "127.0.0.1:4000"))).found


def test_a_proxy_at_work_is_good() -> None:
    findings = list(running.at_work(status(), "127.0.0.1:4000"))
    assert not bad(findings)
    assert "5 exchanges ended" in findings[0].found
