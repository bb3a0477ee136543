"""Background work that ends by itself is known, and works that belong together end together."""

from __future__ import annotations

import asyncio
import socket

import pytest

from storj.exception import StorjError
from storj.network.node.tasks import Tasks, others_first, together
from tests.network.nodes import run


async def fails() -> None:
    raise OSError('no')


async def ends() -> None:
    pass


@pytest.mark.parametrize(('work', 'match'), [(fails, 'no'), (ends, 'it ended')])
def test_task_that_ends_by_itself_is_told(work, match, caplog) -> None:
    async def test() -> None:
        tasks = Tasks('farmer')
        tasks.start('waiting', asyncio.Event().wait())
        tasks.start('working', work())
        with pytest.raises((OSError, RuntimeError), match=match):
            await tasks.failed
        await tasks.stop()

    run(test)
    assert 'farmer: working failed' in caplog.text


def test_work_that_fails_is_told_and_noted_until_it_succeeds(caplog) -> None:
    async def test() -> None:
        tasks = Tasks('farmer')
        await asyncio.wait({tasks.once('a copy', fails())})
        assert tasks.troubles == {'a copy': "OSError('no')"}
        assert not tasks.failed.done()
        await asyncio.wait({tasks.once('a copy', ends())})
        assert tasks.troubles == {}

    run(test)
    assert "farmer: a copy failed: OSError('no')" in caplog.text


def test_error_with_a_message_for_people_is_left_to_the_owner(caplog) -> None:
    async def refuses() -> None:
        raise StorjError('the bridge takes no farmers')

    async def test() -> None:
        tasks = Tasks('farmer')
        tasks.start('the link', refuses())
        with pytest.raises(StorjError, match='the bridge takes no farmers'):
            await tasks.failed
        assert tasks.troubles == {'the link': 'the bridge takes no farmers'}

    run(test)
    assert caplog.text == ''


@pytest.mark.parametrize('failing', [True, False])
def test_first_end_ends_the_works_beside_it(failing) -> None:
    async def test() -> None:
        tasks, ended = Tasks('farmer'), []

        async def goes_on() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        if failing:
            tasks.start('working', fails())
            with pytest.raises(OSError, match='no'):
                await tasks.first(goes_on())
        else:
            await tasks.first(goes_on(), ends())
        assert ended == [True]

    run(test)


def test_task_that_is_stopped_is_not(caplog) -> None:
    async def test() -> None:
        tasks = Tasks('farmer')
        tasks.start('waiting', asyncio.Event().wait())
        await tasks.stop()
        assert not tasks.failed.done()

    run(test)
    assert caplog.text == ''


@pytest.mark.parametrize('outside', [True, False])
def test_end_of_one_lets_the_others_end_in_good_order(outside) -> None:
    async def test() -> None:
        begun, cleaned = asyncio.Event(), []

        async def works() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                # What a second cancellation would break off.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                cleaned.append(True)

        async def breaks() -> None:
            await begun.wait()
            if outside:
                await asyncio.Event().wait()
            raise OSError('no')

        task = asyncio.ensure_future(together(works(), works(), breaks()))
        await begun.wait()
        if outside:
            task.cancel()
        with pytest.raises(asyncio.CancelledError if outside else OSError):
            await task
        assert cleaned == [True, True]

    run(test)


def test_what_came_in_during_a_portion_goes_before_the_next() -> None:
    async def test() -> None:
        loop, order = asyncio.get_running_loop(), list[object]()
        one, other = socket.socketpair()
        with one, other:
            loop.add_reader(one, lambda: order.append(one.recv(1)))
            for portion in range(2):
                order.append(portion)
                other.send(b'%d' % portion)
                await others_first()
            loop.remove_reader(one)
        assert order == [0, b'0', 1, b'1']

    run(test)
