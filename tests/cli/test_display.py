"""Rows as text: alignment, digits, folding, and nothing that drives the terminal."""

from datetime import UTC, datetime

from otel_agentperf.cli.display import cells, lines, record, that_fit


def text(*columns: tuple[str, list[object]], width: int | None = None) -> str:
    return "\n".join(lines([cells(name, values) for name, values in columns], width))


def test_numbers_stand_right_with_the_digits_that_matter() -> None:
    table = text(
        ("name", ["a", None]),
        ("ttft_s", [0.5, 12.25]),
        ("job_latency_s", [3661.04, 1.0]),
        ("output_speed_tps", [61.2345, None]),
        ("cache_hit", [0.8, 1.0]),
        ("tokens", [131072, 7]),
        ("whole", [2.0, 30.0]),
        ("tiny", [0.0001234, 0.0]),
        ("yes", [True, False]),
    )
    assert table == (
        "name  ttft_s  job_latency_s  output_speed_tps  cache_hit   tokens  whole       tiny  yes\n"
        "────  ──────  ─────────────  ────────────────  ─────────  ───────  ─────  ─────────  ───\n"
        "a      0.500        3,661.0             61.23      80.0%  131,072      2  0.0001234  yes\n"
        "–     12.250            1.0                 –     100.0%        7     30  0.0000000  no"
    )


def test_where_rows_have_units_the_digits_are_those_of_the_unit() -> None:
    units = ["s", "tokens", "s", "share"]
    column = cells("change", [0.0123, 26665.5, -0.00001, -0.125], units)
    assert column.values == ["0.012", "26,666", "0.000", "-12.5%"]
    assert cells("relative", [0.05, None, -0.5, 1.0], units).values == ["5.0%", "–", "-50.0%", "100.0%"]


def test_what_is_not_a_number_is_absent() -> None:
    assert text(("x", [float("nan"), float("inf"), 1.5])).split("\n")[2:] == ["    –", "    –", "1.500"]


def test_times_are_iso_in_utc() -> None:
    moment = datetime(2026, 7, 31, 12, 0, 1, 5000, tzinfo=UTC)
    assert text(("t", [moment, moment.replace(tzinfo=None)])).split("\n")[2:] == [
        "2026-07-31T12:00:01.005Z",
        "2026-07-31T12:00:01.005",
    ]


def test_control_characters_of_a_span_do_not_reach_the_terminal() -> None:
    table = text(("x", ["red \x1b[31m", "two\nlines", "tab\t", "csi \x9b1m", "sep\u2028"]))
    assert table.split("\n")[2:] == ["red \\x1b[31m", "two\\nlines", "tab\\t", "csi \\x9b1m", "sep\\u2028"]


def test_values_that_are_lists_are_json() -> None:
    assert text(("x", [["a", 1], {"b": None}])).split("\n")[2:] == ['["a",1]', '{"b":null}']


def test_wide_characters_are_counted_as_the_terminal_does() -> None:
    assert text(("a", ["日本", "x"]), ("b", ["1", "2"])).split("\n")[2:] == ["日本  1", "x     2"]


def test_without_a_width_nothing_is_folded() -> None:
    assert text(("id", ["x" * 500])).split("\n")[2] == "x" * 500


def test_a_narrow_terminal_breaks_names_and_leaves_out_the_last_columns() -> None:
    columns = [cells("trajectory_id", ["abcdefgh"]), cells("cached_input_tokens", [100]), cells("output_tokens", [5])]
    shown = that_fit(columns, 22)
    assert [column.name for column in shown] == ["trajectory_id", "cached_input_tokens"]
    assert list(lines(shown, 22)) == [
        "             cached_",
        "trajectory_   input_",
        "id            tokens",
        "───────────  ───────",
        "abcdefgh         100",
    ]


def test_a_column_wider_than_the_terminal_is_folded_and_complete() -> None:
    folded = list(lines([cells("n", [1]), cells("id", ["0123456789" * 4])], 30))
    assert folded[2:] == ["1  012345678901234567890123456", "   7890123456789"]


def test_a_record_lists_the_fields_that_are_known() -> None:
    fields = {"name": "ttft", "formula": None, "definition": "word " * 20}
    assert list(record(fields, 60)) == [
        "name        ttft",
        "definition  word word word word word word word word word",
        "            word word word word word word word word word",
        "            word word",
    ]
    assert list(record(fields)) == ["name        ttft", f"definition  {'word ' * 20}"]
