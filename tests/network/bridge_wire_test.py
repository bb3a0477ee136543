"""Dates, numbers and ids on the bridge's wire."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.network.node.wire import Refusal, iso_date, number, object_id, parse_date, text

# The years 1 to 9999.
MILLISECONDS = st.integers(-62135596800000, 253402300799999)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(MILLISECONDS)
def test_date_survives_the_round_trip(milliseconds: int) -> None:
    written = iso_date(milliseconds)
    assert len(written) == len('2016-11-23T10:15:30.123Z')
    assert parse_date(written) == milliseconds


@pytest.mark.parametrize(
    ('value', 'milliseconds'),
    [
        ('2016-11-23T10:15:30.1Z', 1479896130100),
        ('2016-11-23T10:15:30.123Z', 1479896130123),
        ('2016-11-23T10:15:30Z', 1479896130000),
        ('2016-11-23T12:15:30.123+02:00', 1479896130123),
        ('2016-11-23T10:15:30.123', 1479896130123),
        ('2016-11-23', 1479859200000),
        (1479896130123, 1479896130123),
        (1479896130123.0, 1479896130123),
        ('1479896130123', 1479896130123),
        ('-1', -1),
    ],
)
def test_date_is_read_from_text_and_numbers(value: object, milliseconds: int) -> None:
    assert parse_date(value) == milliseconds


@pytest.mark.parametrize(
    'value',
    [None, '', 'soon', True, 1.5, '1.5', 10**15, '2016-02-30', [1], '0001-01-01T00:00+14:00'],
)
def test_no_date_is_none(value: object) -> None:
    assert parse_date(value) is None


@given(ANYTHING)
def test_no_value_raises(value: object) -> None:
    whole = number(value)
    assert whole is None or (type(whole) is int and whole == value)
    date = parse_date(value)
    assert date is None or parse_date(iso_date(date)) == date
    for read in (lambda: object_id(value, 'File'), lambda: text({'a': value}, 'a', 5)):
        with contextlib.suppress(Refusal):
            read()


@pytest.mark.parametrize('value', ['AB' * 12, 'ab' * 12])
def test_id_is_lower_case(value: str) -> None:
    assert object_id(value, 'File') == 'ab' * 12


@pytest.mark.parametrize('value', ['ab' * 12 + '\n', 'ab' * 11, '0x' + 'ab' * 11, '１' * 24])
def test_other_text_is_no_id(value: str) -> None:
    with pytest.raises(Refusal, match='File id is malformed'):
        object_id(value, 'File')
