"""Hosts by their text."""

from __future__ import annotations

from pathlib import Path

import pytest

from storj.network.farmer.settings import FarmerSettings
from storj.network.settings import Endpoint
from storj.system.hosts import is_host

HOSTS = ('127.0.0.1', '::1', 'localhost', 'farmer-1.example', 'xn--bcher-kva.example')
NO_HOSTS = ('a b', 'http://h', '[::1]', 'h:99', 'x\ny', 'a_b', '-h', '127.1', 'h.0x7f')
EVERYWHERE = ('0.0.0.0', '::')


@pytest.mark.parametrize('text', HOSTS)
def test_address_that_nodes_take_can_be_announced(text: str) -> None:
    assert is_host(text)
    assert Endpoint(address=text).announced == text
    assert FarmerSettings(Path('x'), address=text).address == text


@pytest.mark.parametrize('text', [*NO_HOSTS, *EVERYWHERE])
def test_address_that_nodes_refuse_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match='address to announce'):
        Endpoint(address=text)
    with pytest.raises(ValueError, match='address to announce'):
        FarmerSettings(Path('x'), address=text)
