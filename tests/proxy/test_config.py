"""Configuration: a TOML file, options over it, and one clear line for everything that cannot work."""

import inspect
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.config import ProxyConfig, UpstreamConfig, load, unknown_variables

UPSTREAM = {"upstream": "http://127.0.0.1:8000"}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "proxy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_and_options_over_it(tmp_path: Path) -> None:
    path = write(tmp_path, 'upstream = "https://host/base/"\nworkers = 2\nidle-limit-s = 5\nstore_max_age_s = 1.5\n')
    config = load(path, {"workers": 3, "store": None})
    assert config.workers == 3
    assert config.store is None
    assert config.idle_limit_s == 5
    assert config.store_max_age_s == 1.5
    assert config.upstream == "https://host/base/"


def test_what_is_not_told_has_its_default() -> None:
    assert load(None, UPSTREAM) == ProxyConfig(upstream="http://127.0.0.1:8000")


def test_every_key_says_what_it_does() -> None:
    source = inspect.getsource(ProxyConfig)
    for name in ProxyConfig.__struct_fields__:
        declared = source.index(f"\n    {name}: ")
        following = source[declared + 1 :].splitlines()[1]
        assert following.startswith('    """'), name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upstream = ", "is not TOML"),
        ('upstream = "http://h"\nworker = 2', "Object contains unknown field `worker`"),
        ('upstream = "http://h"\nworkers = "2"', r"Expected `int`, got `str` - at `\$.workers`"),
        ('upstream = "http://h"\nworkers = true', r"Expected `int`, got `bool` - at `\$.workers`"),
        ('upstream = "http://h"\nworkers = 1.5', r"Expected `int`, got `float` - at `\$.workers`"),
        ('upstream = "http://h"\ncapture = "all"', r"Invalid enum value 'all' - at `\$.capture`"),
        ('upstream = "http://h"\n[store]\ndirectory = "x"', r"at `\$.store`"),
        ("upstream = 1", r"Expected `str`, got `int` - at `\$.upstream`"),
        ('upstream = ""', "no upstream: give --upstream URL"),
        ("workers = 1", "no upstream: give --upstream URL"),
        ('upstream = "127.0.0.1:8000"', "not an http or https URL: '127.0.0.1:8000'; write for example http://"),
        ('upstream = "http://h"\nsalt = "xyz"', "salt must be hex digits"),
        ('upstream = "http://h"\naccess-log = "json"\nobserve = false', "access_log needs observe"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as info:
        load(write(tmp_path, text), {})
    assert "\n" not in str(info.value)


NUMBERS = [
    field.name for field in msgspec.structs.fields(ProxyConfig) if field.type in (int, float, int | None, float | None)
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf"])
def test_numbers_that_cannot_work_are_refused(name: str, value: str, tmp_path: Path) -> None:
    path = write(tmp_path, f'upstream = "http://h"\n{name} = {value}')
    if value == "0" and name in ("drain_s", "observed_body_bytes"):
        assert getattr(load(path, {}), name) == 0
    else:
        with pytest.raises(UsageError, match=f"{name}"):
            load(path, {})


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*/missing\.toml: No such file or directory"):
        load(tmp_path / "missing.toml", UPSTREAM)
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        load(tmp_path, UPSTREAM)
    (tmp_path / "latin.toml").write_bytes(b'upstream = "http://h"\n# caf\xe9\n')
    with pytest.raises(UsageError, match=r"latin\.toml is not TOML"):
        load(tmp_path / "latin.toml", {})


def test_a_configuration_survives_the_way_to_another_process() -> None:
    config = load(None, {**UPSTREAM, "store": None, "provider": "x"})
    assert msgspec.convert(msgspec.to_builtins(config), ProxyConfig) == config


def test_tiers_are_told_with_commas_between_and_are_known() -> None:
    config = load(None, UPSTREAM, {"OTEL_AGENTPERF_SLO": "demo:standard, aa-agentperf:gpt-oss-120b#1"})
    assert config.slo == ("demo:standard", "aa-agentperf:gpt-oss-120b#1")
    with pytest.raises(UsageError, match="unknown SLO tier 'nothing:at-all'"):
        load(None, {**UPSTREAM, "slo": ["nothing:at-all"]})


def test_options_win_over_variables_and_these_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'upstream = "http://file"\nworkers = 2\nidle-limit-s = 5\ndrain_s = 6\n')
    environment = {
        "OTEL_AGENTPERF_UPSTREAM": "http://variable",
        "OTEL_AGENTPERF_WORKERS": "3",
        "OTEL_AGENTPERF_IDLE_LIMIT_S": "7.5",
        "OTEL_AGENTPERF_PRESERVE_HOST": "true",
        "OTEL_AGENTPERF_PROVIDER": "",
        "OTEL_AGENTPERF_PEERS": "/somewhere",
        "HOME": "/root",
    }
    config = load(path, {"workers": 4}, environment)
    assert config.upstream == "http://variable"
    assert (config.workers, config.idle_limit_s, config.drain_s) == (4, 7.5, 6)
    assert config.preserve_host
    assert config.provider is None


@pytest.mark.parametrize("field", msgspec.structs.fields(ProxyConfig), ids=lambda field: field.name)
def test_every_key_has_its_variable(field: msgspec.structs.FieldInfo) -> None:
    texts = {int: "3", float: "2.5", bool: "false", str: "00"}
    text = next((text for kind, text in texts.items() if kind is field.type or kind in get_args(field.type)), None)
    told_as = {
        "otlp_protocol": "grpc",
        "export_keep": "error",
        "metric_names": "old",
        "slo": "demo:standard",
        "upstreams": '[{"url": "http://h", "path": "/a"}]',
    }
    text = told_as.get(field.name) or text or get_args(field.type)[-1]
    environment = {"OTEL_AGENTPERF_UPSTREAM": "http://h", f"OTEL_AGENTPERF_{field.name.upper()}": text}
    if field.name == "upstream":
        text = environment["OTEL_AGENTPERF_UPSTREAM"] = "http://g"
    options = {"tls_cert": "x"} if field.name == "tls_key" else {}
    told = msgspec.to_builtins(load(None, options, environment))[field.name]
    assert told != field.default or text in ("00", "false", told)
    assert unknown_variables(environment) == []


def test_a_variable_that_cannot_be_read_is_told_by_its_name() -> None:
    with pytest.raises(UsageError, match="OTEL_AGENTPERF_WORKERS: Expected `int`"):
        load(None, UPSTREAM, {"OTEL_AGENTPERF_WORKERS": "two"})
    with pytest.raises(UsageError, match="OTEL_AGENTPERF_UPSTREAMS: JSON is malformed"):
        load(None, UPSTREAM, {"OTEL_AGENTPERF_UPSTREAMS": "http://h"})


def test_misspelt_variables_can_be_told() -> None:
    environment = {"OTEL_AGENTPERF_WORKRES": "2", "OTEL_AGENTPERF_PEERS": "/x", "OTEL_AGENTPERF_STORE": "/y"}
    assert unknown_variables(environment) == ["OTEL_AGENTPERF_WORKRES"]


def test_tables_of_upstreams(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[[upstreams]]\nurl = "http://a"\npath = "/a"\nstrip-path = true\n[[upstreams]]\nurl = "http://b"\n'
    )
    config = load(path, {})
    assert config.upstreams == (
        UpstreamConfig(url="http://a", path="/a", strip_path=True),
        UpstreamConfig(url="http://b"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[upstreams]]\nurl = "a:1"', "not an http or https URL"),
        ('[[upstreams]]\nurl = "http://a"\npath = "a"', "begins with a slash"),
        ('[[upstreams]]\nurl = "http://a"\nstrip_path = true', "strip_path without path"),
        ('[[upstreams]]\npath = "/a"', "missing required field `url`"),
        ('upstreams = ["http://a"]', "Expected `object`"),
        ('upstream = "http://h"\ntls_key = "x"', "tls_key without tls_cert"),
    ],
)
def test_upstreams_that_cannot_work(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load(write(tmp_path, text), {})


def test_an_empty_store_in_a_file_is_none(tmp_path: Path) -> None:
    assert load(write(tmp_path, 'upstream = "http://h"\nstore = ""'), {}).store is None
