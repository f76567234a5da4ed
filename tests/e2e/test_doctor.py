"""The doctor beside a real proxy, as a user runs it."""

import json
import os
import subprocess
import sys

import httpx
import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def doctor(tmp_path):
    """`doctor(*options)`: its exit status, and its findings by what was looked at."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_"))}

    def ask(*options, **variables):
        done = subprocess.run(
            [sys.executable, "-m", "otel_agentperf", "doctor", "--format", "json", *options],
            cwd=tmp_path,
            env={**environment, "HOME": str(tmp_path), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        findings = json.loads(done.stdout) if done.stdout else []
        assert all(finding["advice"] for finding in findings if finding["verdict"] in ("warning", "problem"))
        return done.returncode, findings

    return ask


def verdicts(findings, check):
    return [finding["verdict"] for finding in findings if finding["check"] == check]


def test_a_proxy_at_work(start_proxy, endpoint, doctor):
    proxy = start_proxy(endpoint[0])
    where = ("--listen", proxy.url.removeprefix("http://"), "--admin", proxy.admin)
    status, findings = doctor(*where, OPENAI_BASE_URL=f"{proxy.url}/v1")
    assert status == 0
    assert verdicts(findings, "proxy") == ["ok", "warning"]
    assert "no client has called it" in [f["found"] for f in findings if f["check"] == "proxy"]
    # The upstream and the store are those of the proxy that runs.
    assert verdicts(findings, "upstream") == ["ok"]
    assert verdicts(findings, "store") == ["ok"]
    assert verdicts(findings, "client OpenAI SDKs") == ["ok"]
    assert doctor(*where, "--strict")[0] == 1
    body = {"model": "simulated", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    httpx.post(f"{proxy.url}/v1/chat/completions", json=body).raise_for_status()
    proxy.wait_until(lambda now: now["observer"]["stats"]["store"]["spans_written"] > 0)
    status, findings = doctor(*where)
    assert status == 0
    assert verdicts(findings, "proxy") == ["ok"]
    assert any("1 calls were recorded" in finding["found"] for finding in findings)


def test_a_call_through_the_whole_chain(endpoint, doctor):
    for dialect in ("chat", "messages"):
        status, findings = doctor("--upstream", endpoint[0], "--model", "simulated", "--dialect", dialect)
        assert (status, verdicts(findings, "trial")) == (0, ["ok"])
        (trial,) = [finding for finding in findings if finding["check"] == "trial"]
        assert "first token after" in trial["found"]
        assert "counted by server" in trial["found"]
    assert not [finding for finding in findings if "store" in finding["check"] and "can be written" in finding["found"]]


def test_a_wrong_prefix_is_a_problem_everywhere(endpoint, doctor):
    status, findings = doctor("--upstream", f"{endpoint[0]}/v1", "--model", "simulated")
    assert status == 1
    assert verdicts(findings, "upstream") == ["problem"]
    assert verdicts(findings, "trial") == ["problem"]


def test_settings_that_cannot_work_are_a_problem(doctor):
    for options, variables in ((("--listen", "nowhere"), {}), ((), {"OTEL_AGENTPERF_WORKERS": "many"})):
        status, findings = doctor(*options, **variables)
        assert status == 1
        assert verdicts(findings, "settings") == ["problem"]


@pytest.mark.parametrize("options", [("--api-key-env", "NO_SUCH_KEY"), ("--since", "never"), ("--dialect", "morse")])
def test_wrong_usage_is_told(options, doctor):
    assert doctor(*options) == (2, [])
