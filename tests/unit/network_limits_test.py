"""Windows in which the network's servers count."""

from __future__ import annotations

from storj.network.bridge.quotas import MINUTE, Windows


def test_keys_are_counted_apart_until_their_window_ends() -> None:
    now = [100.0]
    windows = Windows(lambda: now[0], MINUTE)
    windows.counter(('a',)).used += 2
    now[0] += 20
    assert windows.counter(('a',)).used == 2
    assert windows.counter(('a',)).ends == 160
    assert windows.counter(('b',)).used == 0
    now[0] += 40
    assert windows.counter(('a',)).used == 0


def test_oldest_of_very_many_keys_are_forgotten() -> None:
    windows = Windows(lambda: 0.0, MINUTE)
    for number in range(100_001):
        windows.counter((str(number),)).used = 1
    assert windows.counter(('100000',)).used == 1
    assert windows.counter(('0',)).used == 0
