"""Pointers that are checked, waits that end, refusals that are told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import exception, farmer_connection, model

GOOD: dict[str, Any] = {
    'hash': '4af6b8cd7fac9e832650c82e965a06aabe920c07',
    'token': '557bfbc7453b57afb18f371367cfcd4d50f3915b',
    'operation': 'PULL',
    'size': 9,
    'farmer': {
        'address': '127.0.0.1',
        'port': 4000,
        'nodeID': 'a40725dd8528a15601d2d6ebd63632c70dc7da24',
        'protocol': '0.10.0',
    },
}


def test_pointer_is_read_as_mapping_and_as_model():
    ticket = farmer_connection.Ticket.of(GOOD)
    assert ticket == farmer_connection.Ticket.of(model.FilePointer(**copy.deepcopy(GOOD)))
    assert ticket == farmer_connection.Ticket(
        '127.0.0.1',
        4000,
        GOOD['farmer']['nodeID'],
        '0.10.0',
        GOOD['hash'],
        GOOD['token'],
        9,
    )


def test_ticket_does_not_show_its_token():
    assert GOOD['token'] not in repr(farmer_connection.Ticket.of(GOOD))


def test_pointer_of_old_bridges_names_a_channel():
    pointer = {name: GOOD[name] for name in ('hash', 'token', 'operation')}
    ticket = farmer_connection.Ticket.of(pointer | {'channel': 'ws://farmer.example:4000'})
    assert (ticket.host, ticket.port, ticket.protocol) == ('farmer.example', 4000, '0.0.0')
    for channel in ('ws://a b:1', 'http://a:1', 'ws://a', 5, None):
        with pytest.raises(exception.FarmerError):
            farmer_connection.Ticket.of(pointer | {'channel': channel})


@pytest.mark.parametrize(
    ('address', 'host'),
    [
        ('farmer.example.', 'farmer.example.'),
        ('10.0.0.1', '10.0.0.1'),
        ('::1', '::1'),
        ('[2001:db8::1]', '2001:db8::1'),
        ('xn--bcher-kva.example', 'xn--bcher-kva.example'),
    ],
)
def test_address_may_be_name_or_number(address, host):
    pointer = GOOD | {'farmer': GOOD['farmer'] | {'address': address, 'port': '80'}}
    ticket = farmer_connection.Ticket.of(pointer)
    assert (ticket.host, ticket.port) == (host, 80)


@pytest.mark.parametrize('address', ['a' * 253 + '!', 'a' * 64, 'a.' * 128, 'a..b', '-a', '.', ''])
def test_address_that_is_none_is_refused_at_once(address):
    pointer = GOOD | {'farmer': GOOD['farmer'] | {'address': address}}
    with pytest.raises(exception.FarmerError, match='address'):
        farmer_connection.Ticket.of(pointer)


def test_node_id_that_is_none_is_left_out():
    for node_id in ('x\r\nHost: evil', None, 5):
        pointer = GOOD | {'farmer': GOOD['farmer'] | {'nodeID': node_id}}
        assert farmer_connection.Ticket.of(pointer).node_id is None


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just('127.0.0.1')


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, 'channel']),
        values
        | st.sampled_from(list(GOOD.values()))
        | st.dictionaries(st.sampled_from(list(GOOD['farmer'])), values),
    )
)
def test_any_pointer_gives_a_ticket_or_an_error_of_ours(change):
    try:
        ticket = farmer_connection.Ticket.of(GOOD | change)
    except exception.FarmerError:
        return
    assert 0 < ticket.port < 65536
    assert not set(ticket.host) & set(' /@\r\n?#%')


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('code', 'message', 'kind'),
    [
        (3101, 'Token has expired', exception.SuppliedTokenNotAcceptedError),
        (3101, 'Channel is already active', exception.SuppliedTokenNotAcceptedError),
        (401, 'You did not supply a token', exception.SuppliedTokenNotAcceptedError),
        (
            3102,
            'Calculated hash does not match the expected result',
            exception.HashMismatchError,
        ),
        (
            400,
            'Calculated hash does not match the expected result',
            exception.HashMismatchError,
        ),
        (
            3102,
            'The data transferred exceeds the amount defined in the contract',
            exception.FarmerError,
        ),
        (1011, 'no room', exception.FarmerError),
    ],
)
def test_refusal_gets_its_class_and_keeps_its_words(code, message, kind):
    error = farmer_connection.farmer_error(code, message)
    assert type(error) is kind
    assert error.message == message
    assert error.code == (kind.CODE or code)


def test_refusal_is_cut_and_never_empty():
    assert len(farmer_connection.farmer_error(500, 'x\n' * 10_000).message) == 500
    assert farmer_connection.farmer_error(503, '').message == 'the farmer refused with code 503'


# --- the watch ----------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch(clock: Clock, **limits: float) -> farmer_connection.Watchdog:
    return farmer_connection.Watchdog(farmer_connection.ChannelLimits(**limits), clock=clock)


def test_phase_ends_at_its_time(clock):
    made = watch(clock)
    made.expect(10, 'too late')
    clock.now += 9.9
    made.moved(5)
    made.check()
    clock.now += 0.1
    with pytest.raises(exception.FarmerUnreachableError, match='too late'):
        made.check()


def test_stall_is_counted_from_the_last_byte(clock):
    made = watch(clock, minimum_rate=0)
    made.flow()
    for _ in range(10):
        clock.now += 19.9
        made.check()
        made.moved(1)
    clock.now += 20
    with pytest.raises(exception.FarmerUnreachableError, match='no byte for 20 s'):
        made.check()


def test_rate_is_taken_over_the_last_span(clock):
    made = watch(clock, minimum_rate=100)
    made.flow()
    made.moved(1_000_000)
    for _ in range(20):
        clock.now += 1
        made.moved(10)
        made.check()
    clock.now += 1
    # The burst at the beginning has left the span.
    with pytest.raises(exception.FarmerUnreachableError, match='10 bytes a second'):
        made.check()


def test_fast_farmer_is_left_in_peace(clock):
    made = watch(clock)
    made.flow()
    for _ in range(10_000):
        clock.now += 0.5
        made.moved(20_000)
        made.check()
    assert len(made._marks) < 50


def test_time_of_the_caller_does_not_count(clock):
    made = watch(clock)
    made.flow()
    for _ in range(100):
        clock.now += 1
        made.moved(40_000)
        with made.paused():
            clock.now += 1000
        made.check()
    made.expect(10, 'too late')
    with made.paused():
        clock.now += 1000
    made.check()


def test_cancelling_goes_before_everything(clock):
    made = farmer_connection.Watchdog(farmer_connection.ChannelLimits(), lambda: True, clock)
    with pytest.raises(exception.TransferCancelled):
        made.check()
