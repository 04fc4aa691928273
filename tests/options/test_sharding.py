"""One table's sharding: what goes together, and its text form."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.options.sharding import Sharding

TEXTS = ["row", "row+hot(1000)", "table:3", "table:0", "column", "replicated"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_and_back(text):
    assert str(Sharding.parse(text)) == text


@settings(deadline=None)
@given(st.integers(0, 10**12))
def test_every_number_survives(n):
    for sharding in (Sharding(hot_rows=n), Sharding("table", n)):
        assert Sharding.parse(str(sharding)) == sharding


def test_by_row_is_the_default():
    assert Sharding() == Sharding.parse("row") == Sharding.parse(" row+hot(0) ")
    assert len({Sharding(), Sharding.parse("row")}) == 1


@pytest.mark.parametrize("text", ["", "rows", "table", "table:-1", "table:x", "row+hot()", "column+hot(3)", "row:3"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="sharding must read row, row"):
        Sharding.parse(text)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("ring",), ValueError, "one of row, table, column, replicated; got 'ring'"),
        (("table",), ValueError, '"table" needs one'),
        (("row", 3), ValueError, 'owner goes with "table"'),
        (("table", -1), ValueError, "owner must be a rank, 0 or more; got -1"),
        (("table", "3"), TypeError, "owner must be an int; got '3'"),
        (("table", True), TypeError, "owner must be an int; got True"),
        (("column", None, 5), ValueError, 'goes with "row"; got 5'),
        (("row", None, -5), ValueError, "hot_rows must be 0 or more"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, error, message):
    with pytest.raises(error) as raised:
        Sharding(*arguments)
    assert message in str(raised.value)


def test_an_owner_is_one_of_the_ranks():
    Sharding("table", 7).check_world(8)
    Sharding("column").check_world(1)
    with pytest.raises(ValueError, match="owner 8 is none of 8 ranks"):
        Sharding("table", 8).check_world(8)
