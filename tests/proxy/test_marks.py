"""Texts are told again by their marks, and only texts that are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf_proxy import marks

REPORT = "There are three files.\nThe first one holds the settings.\nThe second one is a test of it.\nok"
OTHER = "There were no files at all.\nThe directory is an empty one.\nNothing else is to be said."
LINES = st.lists(st.text(st.characters(categories=("L", "N", "Zs")), min_size=1, max_size=60), max_size=30)


def holds(text: str, inner: str) -> bool:
    return marks.holds(marks.of_lines(text), marks.of_lines(inner))


@pytest.mark.parametrize(
    "wrapped",
    [
        REPORT,
        f"  {REPORT}\n\n",
        f"<task id='x'>\n<result>\n{REPORT}\n</result>\n</task>",
        "The sub-agent has ended and says:\n\n" + REPORT.replace("\n", "\r\n") + "\n\nGo on from there, please.",
        '{"status": {"completed": ' + '"There are three files.\\nThe first one holds the settings.\\n'
        'The second one is a test of it.\\nok"}}',
    ],
)
def test_a_text_is_found_in_what_wraps_it(wrapped):
    assert holds(wrapped, REPORT)


@pytest.mark.parametrize("text", [OTHER, "", "ok", REPORT.replace("three", "four").replace("settings", "setting")])
def test_another_text_is_not_found(text):
    assert not holds(text, REPORT)


def test_headings_in_common_are_not_enough():
    headings = [f"{number}. What is in part {number} of it:" for number in range(9)]
    one, other = (
        "\n".join(line for heading in headings for line in (heading, *(f"{who} said {heading} {n}" for n in range(3))))
        for who in ("the first", "the second")
    )
    assert not holds(one, other)


def test_a_text_with_one_line_is_found_by_it():
    assert holds("Here is what it said:\nThere is one python file.", "There is one python file.")


@given(before=LINES, inner=LINES, after=LINES)
def test_lines_are_found_wherever_they_stand(before, inner, after):
    text = "\n".join([*before, *inner, *after])
    told = marks.of_lines("\n".join(inner))
    assert set(marks.split(told)) <= set(marks.split(marks.of_lines(text)))


@given(text=st.text())
def test_marks_are_whole_and_bounded(text):
    for told in (marks.of_lines(text), marks.of_texts([text] * 20), marks.of_result(text)):
        assert len(told) % marks.MARK_BYTES == 0
        assert len(told) <= marks.MARK_BYTES * marks.MAX_LINES
        assert b"".join(marks.split(told)) == told


def test_white_space_around_a_text_does_not_count():
    assert marks.mark(" List the files.\n") == marks.mark("List the files.")
    assert marks.of_texts(["", "a", " a "]) == marks.mark("a") * 2


@pytest.mark.parametrize(
    "result",
    [
        '<task id="ses_df22abd71ffetqIblzHB12FivU" state="completed">\n' + "x\n" * 1000,
        "x\n" * 1000 + "agentId: ses_df22abd71ffetqIblzHB12FivU (for resuming)",
    ],
)
def test_an_id_near_the_start_or_the_end_of_a_result_is_marked(result):
    assert marks.mark("ses_df22abd71ffetqIblzHB12FivU") in marks.split(marks.of_result(result))


def test_hostile_json_in_a_line_is_a_line():
    deep = "[" * 10_000 + "]" * 10_000
    assert marks.split(marks.of_lines(deep)) == [marks.mark(deep)]
