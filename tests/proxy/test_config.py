"""Configuration: a TOML file, options over it, and one clear line for everything that cannot work."""

import inspect
from pathlib import Path

import msgspec
import pytest

from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.config import ProxyConfig, load

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
