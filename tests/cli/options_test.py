"""Sizes, rates, durations, times and ranges as they are typed."""

from __future__ import annotations

import datetime

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.cli import options


@pytest.mark.parametrize(
    ('text', 'size'),
    [
        ('0', 0),
        ('10', 10),
        ('10B', 10),
        ('10M', 10 * 1024**2),
        ('10MiB', 10 * 1024**2),
        ('10MB', 10_000_000),
        ('10mb', 10_000_000),
        ('1.5 KiB', 1536),
        ('2g', 2 * 1024**3),
    ],
)
def test_size_has_binary_and_decimal_units(text, size):
    assert options.SIZE.convert(text, None, None) == size


@pytest.mark.parametrize('text', ['', 'M', '-1', '1X', '1e3', '١MB', '1 2'])
def test_wrong_size_is_refused(text):
    with pytest.raises(click.BadParameter):
        options.SIZE.convert(text, None, None)


def test_rate_may_have_a_per_second_or_be_off():
    assert options.RATE.convert('2MiB/s', None, None) == 2 * 1024**2
    assert options.RATE.convert('off', None, None) == 0
    assert options.RATE.convert('0', None, None) == 0


@pytest.mark.parametrize(
    ('text', 'seconds'),
    [('30', 30), ('30s', 30), ('5m', 300), ('2h', 7200), ('7d', 604800), ('1h30m', 5400)],
)
def test_duration_has_units(text, seconds):
    assert options.DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize('text', ['', 's', '5x', '5m5', '-5s'])
def test_wrong_duration_is_refused(text):
    with pytest.raises(click.BadParameter):
        options.DURATION.convert(text, None, None)


def test_expiry_is_a_time_or_a_span_from_now():
    assert options.EXPIRY.convert('2030-01-31T12:00:00Z', None, None) == datetime.datetime(
        2030, 1, 31, 12, tzinfo=datetime.timezone.utc
    )
    soon = options.EXPIRY.convert('+2h', None, None)
    left = soon - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(hours=1, minutes=59) < left <= datetime.timedelta(hours=2)


@pytest.mark.parametrize('text', ['tomorrow', '2030-01-31T12:00:00', '+', '+2y', '+9999999999d'])
def test_wrong_expiry_is_refused(text):
    with pytest.raises(click.BadParameter):
        options.EXPIRY.convert(text, None, None)


@pytest.mark.parametrize(
    ('text', 'size', 'bounds'),
    [
        ('0-99', 1000, (0, 100)),
        ('0-99', 50, (0, 50)),
        ('100-', 1000, (100, 1000)),
        ('-500', 1000, (500, 1000)),
        ('-500', 100, (0, 100)),
        ('bytes=5-5', 10, (5, 6)),
    ],
)
def test_range_counts_as_http_does(text, size, bounds):
    assert options.BYTE_RANGE.convert(text, None, None).bounds(size) == bounds


@pytest.mark.parametrize('text', ['', '-', '5-4', 'a-b', '1-2-3'])
def test_wrong_range_is_refused(text):
    with pytest.raises(click.BadParameter):
        options.BYTE_RANGE.convert(text, None, None)


def test_range_outside_the_file_is_refused():
    with pytest.raises(ValueError, match='outside'):
        options.ByteRange(10, None).bounds(10)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    for kind in (
        options.SIZE,
        options.RATE,
        options.DURATION,
        options.EXPIRY,
        options.BYTE_RANGE,
    ):
        try:
            kind.convert(text, None, None)
        except click.BadParameter:
            continue
