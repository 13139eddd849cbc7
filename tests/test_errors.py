"""What messages hold: lists and values of any size, cut to what a person reads."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute.errors import listed, shortened


def test_a_short_list_is_named_whole_and_a_long_one_counted():
    assert listed([]) == ""
    assert listed(["a", "b"]) == "a, b"
    assert listed(range(4_878), most=3) == "0, 1, 2 and 4,875 more"


def test_one_more_name_is_named_rather_than_counted():
    assert listed("abcd", most=3) == "a, b, c, d"
    assert listed("abcde", most=3) == "a, b, c and 2 more"


@settings(derandomize=True, deadline=None, max_examples=50)
@given(value=st.one_of(st.text(max_size=400), st.binary(max_size=400), st.lists(st.text(max_size=9), max_size=90)))
def test_a_value_is_never_longer_than_allowed(value: object):
    """A short one is itself, of a long one both ends are seen."""
    text = shortened(value, 40)
    assert len(text) <= 40
    if len(repr(value)) <= 40:
        assert text == repr(value)
    else:
        assert text.startswith(repr(value)[:20]) and "..." in text


def test_a_text_of_megabytes_is_cut_before_it_is_written_out():
    assert shortened("x" * 50_000_000).count("x") < 80
    assert shortened(b"x" * 50_000_000).startswith("b'xxx")
