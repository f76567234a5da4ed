"""Price tables: their form, what is left out, and what is said of a wrong one."""

from pathlib import Path

import pytest

from otel_agentperf import pricing
from otel_agentperf.errors import UsageError

NEW_YEAR_NS = 1_767_225_600 * 10**9


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    return path


def test_days_and_moments_bound_a_price(tmp_path: Path) -> None:
    found = pricing.load(
        write(
            tmp_path,
            """
            [[price]]
            models = ["a-*"]
            from = 2026-01-01
            until = 2026-01-01T02:00:00+01:00
            input = 1
            output = 2
            """,
        )
    )
    [price] = found.price
    assert (found.currency, price.from_ns, price.until_ns) == ("USD", NEW_YEAR_NS, NEW_YEAR_NS + 3600 * 10**9)
    assert (price.cached_input, price.cache_write, price.providers) == (None, None, ("*",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[price]", "is not TOML"),
        ("", "does not hold prices: .*missing required field `price`"),
        ("price = []", "does not hold prices"),
        ('[[price]]\nmodels = ["a"]\ninput = 1', "missing required field `output`"),
        ("[[price]]\nmodels = []\ninput = 1\noutput = 1", "does not hold prices"),
        ('[[price]]\nmodels = ["a"]\ninput = -1\noutput = 1', ">= 0"),
        ('[[price]]\nmodels = ["a"]\ninput = 1\noutput = 1\nfrom = "2026"', "`from` is not a date: '2026'"),
        (
            '[[price]]\nmodels = ["a"]\ninput = 1\noutput = 1\nfrom = 2026-02-01\nuntil = 2026-01-01',
            r"price 1 \(a\) ends before it begins",
        ),
        ('[[price]]\nmodels = ["a"]\ninput = 1\noutput = 1\nreasoning = 1', "unknown field `reasoning`"),
    ],
)
def test_a_wrong_table_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        pricing.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read prices from .*none\.toml: No such file"):
        pricing.load(tmp_path / "none.toml")
