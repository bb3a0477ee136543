"""The whole network: start and stop, failures to start, state over a restart, farmers that die."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import io
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from storj.cli import main
from storj.crypto import mnemonic
from storj.digest import ShardDigest, new_challenges
from storj.exception import ConfigurationError, NotEnoughShardsError
from storj.http import Client
from storj.network import Fault, FaultPlan, Network
from storj.network.bridge.state import BRIDGE
from storj.network.bridge.tables import Contract
from storj.network.bridge.upkeep.rounds import ping_round
from storj.network.farmer.farmer import Farmer
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmer_process import command_of
from storj.network.node.state_files import FolderLock
from storj.network.settings import NetworkOptions, NetworkSettings
from storj.network.supervisor import NetworkError
from tests.cli.forked import PYTHON
from tests.network.bridges import eventually

pytestmark = pytest.mark.usefixtures('forked_python')

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def net() -> Iterator[Network]:
    """A network of four farmers, two of each protocol; the tests leave all of them running."""
    with Network(farmers=4, bridge={'mirrors': 0, 'audit_interval': 0}) as network:
        yield network


def ask(net: Network, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Send a request of the account to the bridge; return status and decoded answer."""
    password = hashlib.sha256(net.password.encode()).hexdigest()
    credentials = base64.b64encode(f'{net.email}:{password}'.encode()).decode()
    request = urllib.request.Request(
        net.bridge_url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            'Authorization': f'Basic {credentials}',
            'Content-Type': 'application/json',
            **headers,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def exchange(pointer: dict[str, Any], data: bytes | None = None) -> bytes:
    """Bring a shard to the farmer of a pointer, or fetch it, over the channel it announces."""
    farmer, token, name = pointer['farmer'], pointer['token'], pointer['hash']
    url = f'http://{farmer["address"]}:{farmer["port"]}'
    async with aiohttp.ClientSession() as session:
        if farmer['protocol'].startswith('0.'):
            async with session.ws_connect(f'{url}/') as channel:
                operation = 'PULL' if data is None else 'PUSH'
                await channel.send_json({'token': token, 'hash': name, 'operation': operation})
                if data is not None:
                    await channel.send_bytes(data)
                received = b''
                while True:
                    message = await channel.receive()
                    if message.type is not aiohttp.WSMsgType.BINARY:
                        break
                    received += message.data
                assert channel.close_code == 1000
                return received
        method = 'GET' if data is None else 'POST'
        async with session.request(
            method, f'{url}/shards/{name}', params={'token': token}, data=data
        ) as answer:
            assert answer.status in (200, 304)
            return await answer.read()


def upload(net: Network, shards: list[bytes], name: str) -> tuple[str, str, list[str]]:
    """Store a file; return ids of bucket and file, and the protocols of the farmers used."""
    status, bucket = ask(net, 'POST', '/buckets', {'name': f'bucket of {name}'})
    assert status == 201
    _, frame = ask(net, 'POST', '/frames', {})
    protocols = []
    for index, data in enumerate(shards):
        challenges = new_challenges()
        digest = ShardDigest(challenges)
        digest.update(data)
        body = {
            'hash': digest.hexdigest(),
            'size': len(data),
            'index': index,
            'challenges': challenges,
            'tree': digest.leaves(),
        }
        status, pointer = ask(net, 'PUT', f'/frames/{frame["id"]}', body)
        assert status == 200, pointer
        asyncio.run(exchange(pointer, data))
        protocols.append(pointer['farmer']['protocol'])
    body = {'frame': frame['id'], 'mimetype': 'text/plain', 'filename': name}
    status, entry = ask(net, 'POST', f'/buckets/{bucket["id"]}/files', body)
    assert status in (200, 201)
    return bucket['id'], entry['id'], protocols


def download(net: Network, bucket_id: str, file_id: str) -> list[bytes]:
    status, pointers = ask(net, 'GET', f'/buckets/{bucket_id}/files/{file_id}?skip=0&limit=20')
    assert status == 200
    return [asyncio.run(exchange(pointer)) for pointer in pointers]


def test_shards_go_to_farmers_of_both_protocols_and_come_back(net: Network) -> None:
    shards = [os.urandom(20_000) for _ in range(12)]
    bucket_id, file_id, protocols = upload(net, shards, 'both')
    assert set(protocols) == {'0.10.0', '1.2.0'}
    assert download(net, bucket_id, file_id) == shards
    stored = sum(farmer['shards'] for farmer in net.status()['farmers'])
    assert stored == 12


def test_network_of_this_machine_answers_to_its_names_only(net: Network) -> None:
    for path in ('/contacts', '/api/status', '/status'):
        assert ask(net, 'GET', path, Host='localhost')[0] == 200
        assert ask(net, 'GET', path, Host='evil.example')[0] == 403


@pytest.mark.parametrize(
    ('options', 'status'),
    [
        ({'address': 'localhost'}, 403),
        ({'bridge': {'hosts': ['storj.example']}}, 200),
        ({'bridge': {'hosts': None}}, 200),
        ({'host': '0.0.0.0', 'address': '127.0.0.1'}, 200),
    ],
)
def test_names_of_a_network_can_be_chosen(options: dict[str, Any], status: int) -> None:
    with Network(farmers=0, **options) as net:
        assert ask(net, 'GET', '/contacts', Host='storj.example')[0] == status


def test_network_says_what_programs_need(net: Network) -> None:
    assert net.running
    assert net.bridge_url.startswith('http://127.0.0.1:')
    assert net.pid == os.getpid()
    mnemonic.check(net.mnemonic)
    assert net.environment() == {
        'STORJ_BRIDGE': net.bridge_url,
        'STORJ_BRIDGE_USER': net.email,
        'STORJ_BRIDGE_PASS': net.password,
        'STORJ_ENCRYPTION_KEY': net.mnemonic,
    }
    assert [farmer.protocol for farmer in net.farmers] == ['0.10.0', '1.2.0'] * 2
    for text in (repr(net), repr(net.farmers), json.dumps(net.status())):
        assert net.password not in text
        assert net.mnemonic not in text
    state = net.data / 'network.json'
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert stat.S_IMODE(net.data.stat().st_mode) == 0o700


def test_all_farmers_are_registered_at_the_start(net: Network) -> None:
    _, contacts = ask(net, 'GET', '/contacts')
    assert {contact['nodeID'] for contact in contacts} == {f.node_id for f in net.farmers}


def test_running_network_does_not_start_again(net: Network) -> None:
    with pytest.raises(RuntimeError):
        net.start()


def test_farmer_comes_back_on_its_port_with_its_shards(net: Network) -> None:
    shards = [os.urandom(1000)]
    bucket_id, file_id, _ = upload(net, shards, 'restart')
    for farmer in net.farmers:
        before = (farmer.node_id, farmer.port)
        farmer.restart()
        assert (farmer.node_id, farmer.port) == before
        farmer.start()
    assert download(net, bucket_id, file_id) == shards


def test_farmer_with_a_wrong_clock_stands_out_in_the_status() -> None:
    with Network(1) as net:
        assert net.status()['farmers'][0]['clock_skew'] is None
        farmer: Any = net.farmers[0]
        farmer.farmer.rpc.clock = lambda: time.time() + 3600
        bridge = net.app[BRIDGE]  # type: ignore[union-attr]
        net.call(ping_round(bridge))
        assert net.status()['farmers'][0]['clock_skew'] == pytest.approx(3600, abs=5)


def test_killed_farmer_answers_nobody(net: Network) -> None:
    farmer = net.farmers[0]
    farmer.kill()
    try:
        assert not farmer.running
        assert not farmer.status()['running']
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((farmer.address, farmer.port), timeout=5)
    finally:
        farmer.start()
    assert farmer.running


def test_fault_at_a_route_of_the_bridge_can_come_and_go(net: Network) -> None:
    fault = net.faults.add(Fault('status', route='GET /buckets', times=0))
    assert ask(net, 'GET', '/buckets') == (503, '{"error": "Service Unavailable"}')
    net.faults.remove(fault)
    assert ask(net, 'GET', '/buckets')[0] == 200


def test_stalled_request_does_not_hold_up_the_stop() -> None:
    with Network(farmers=1, faults=['stall:route=*,times=0,offset=5']) as net:
        address = net.bridge_url.removeprefix('http://').split(':')
        with socket.create_connection((address[0], int(address[1])), timeout=10) as waiting:
            waiting.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
            assert waiting.recv(12) == b'HTTP/1.1 200'
            net.stop()


def test_taken_port_is_an_error_at_once() -> None:
    threads = threading.active_count()
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            Network(farmers=1, port=port).start()
    assert threading.active_count() == threads


def test_folder_in_use_is_an_error_at_once(tmp_path: Path) -> None:
    with (
        Network(farmers=0, data=tmp_path),
        pytest.raises(ConfigurationError, match='another network'),
    ):
        Network(farmers=0, data=tmp_path).start()
    with Network(farmers=0, data=tmp_path) as net:
        assert net.running


@pytest.mark.parametrize(
    'content',
    [
        '{',
        '[]',
        '{"email": 1}',
        '{"email": "", "password": "", "mnemonic": "x"}',
        '{"email": "", "password": "", "mnemonic": "x", "renter_seed": "%s"}' % ('0' * 64),
    ],
)
def test_damaged_state_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / 'network.json').write_text(content)
    with pytest.raises(ConfigurationError, match=r'network\.json'):
        Network(farmers=0, data=tmp_path).start()


def test_farmer_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    threads = threading.active_count()
    (tmp_path / 'farmers').mkdir()
    (tmp_path / 'farmers' / '1').write_text('not a folder')
    with pytest.raises(ConfigurationError, match='farmers/1'):
        Network(farmers=3, data=tmp_path).start()
    assert threading.active_count() == threads
    (tmp_path / 'farmers' / '1').unlink()
    with Network(farmers=3, data=tmp_path) as net:
        assert len(net.farmers) == 3


@pytest.mark.parametrize(
    'arguments',
    [
        {'farmers': -1},
        {'farmers': 1001},
        {'protocol': '3.0'},
        {'port': 65536},
        {'host': '0.0.0.0'},
        {'faults': ['explode']},
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Network(**arguments)


def test_every_option_of_a_network_has_a_default() -> None:
    options = {field.name for field in dataclasses.fields(NetworkSettings)}
    assert options == {'farmers', *NetworkOptions.__annotations__}
    with pytest.raises(TypeError, match='colour'):
        Network(colour='red')  # type: ignore[call-arg]


@pytest.mark.parametrize(('protocol', 'announced'), [('0.10', '0.10.0'), ('1.2', '1.2.0')])
def test_all_farmers_can_announce_one_protocol(protocol: Any, announced: str) -> None:
    with Network(farmers=2, protocol=protocol) as net:
        assert {farmer.protocol for farmer in net.farmers} == {announced}


def test_account_is_active_where_others_need_a_message() -> None:
    with Network(farmers=0, activation='mail') as net:
        assert ask(net, 'GET', '/buckets') == (200, [])


def test_state_survives_a_restart_and_a_stop_is_clean(tmp_path: Path) -> None:
    threads = threading.active_count()
    shards = [os.urandom(500)]
    network = Network(farmers=2, data=tmp_path, bridge={'mirrors': 0})
    network.stop()
    with network as net:
        account = net.environment()
        nodes = [farmer.node_id for farmer in net.farmers]
        bucket_id, file_id, _ = upload(net, shards, 'kept')
        port = net.farmers[0].port
    network.stop()
    assert not network.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(('127.0.0.1', port), timeout=5)
    with pytest.raises(RuntimeError):
        net.farmers[0].start()
    assert threading.active_count() == threads
    with Network(farmers=2, data=tmp_path, bridge={'mirrors': 0}) as again:
        assert [farmer.node_id for farmer in again.farmers] == nodes
        for name in ('STORJ_BRIDGE_USER', 'STORJ_BRIDGE_PASS', 'STORJ_ENCRYPTION_KEY'):
            assert again.environment()[name] == account[name]
        assert download(again, bucket_id, file_id) == shards


def test_farmers_without_shards_are_neither_copied_nor_audited(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Network(farmers=3, store='null') as net:
        upload(net, [os.urandom(500)], 'thrown away')
        settings = net.app[BRIDGE].settings  # type: ignore[union-attr]
        assert (settings.mirrors, settings.audit_interval) == (0, 0)
        counters = [farmer.status()['counters'] for farmer in net.farmers]
    assert not any('mirror_failed' in each or 'read_failed' in each for each in counters)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_temporary_data_is_gone_after_the_stop() -> None:
    with Network(farmers=1) as net:
        data = net.data
        assert (data / 'farmers' / '0' / 'identity.key').exists()
    assert not data.exists()


def check_that_faults_act_at_once(net: Network, bucket_id: str, file_id: str) -> None:
    """Add and remove faults of running farmers, whatever process they are in."""
    whole = download(net, bucket_id, file_id)
    gone = net.faults.add('status:operation=retrieve,times=0')
    path = f'/buckets/{bucket_id}/files/{file_id}?skip=0&limit=9'
    status, pointers = ask(net, 'GET', path)
    assert (status, ['token' in pointer for pointer in pointers]) == (200, [False] * len(whole))
    net.faults.remove(gone)
    # Those that stay go on counting while others come and go.
    net.faults.add(Fault('corrupt', operation='pull', farmer=0, nth=100, times=0))
    twice = Fault('corrupt', operation='pull', times=0)
    net.faults.add(twice)
    changed = download(net, bucket_id, file_id)
    assert all(got != right for got, right in zip(changed, whole, strict=True))
    net.faults.clear()
    assert download(net, bucket_id, file_id) == whole


def test_copy_that_arrives_damaged_is_audited_soon() -> None:
    with (
        Network(farmers=1, durable=False, bridge={'mirrors': 0}) as net,
        Client(net.email, net.password, net.bridge_url, mnemonic=net.mnemonic) as client,
    ):
        bucket = client.bucket_create('b')
        file = client.file_upload(bucket.id, io.BytesIO(b'content'), name='a')

        def next_audit() -> Any:
            database = net.app[BRIDGE].database  # type: ignore[union-attr]
            return net.call(database.read(lambda connection: connection.scalar(date)))

        date = select(Contract.next_audit)
        planned = next_audit()
        net.faults.add(Fault('corrupt', operation='pull'))
        with pytest.raises(NotEnoughShardsError):
            client.file_download(bucket.id, file.id)
        # It may have been audited by now.
        eventually(lambda: next_audit() != planned)


def test_faults_act_at_once_in_one_process() -> None:
    with Network(farmers=2, bridge={'mirrors': 0}) as net:
        bucket_id, file_id, _ = upload(net, [os.urandom(20_000) for _ in range(4)], 'one')
        check_that_faults_act_at_once(net, bucket_id, file_id)


def test_farmers_run_in_processes_of_their_own() -> None:
    with Network(
        farmers=2,
        processes=True,
        bridge={'mirrors': 0},
        faults=['status:farmer=0,status=500,operation=ping', 'delay:route=*,seconds=0'],
    ) as net:
        shards = [os.urandom(20_000) for _ in range(4)]
        bucket_id, file_id, protocols = upload(net, shards, 'processes')
        assert download(net, bucket_id, file_id) == shards
        assert set(protocols) <= {'0.10.0', '1.2.0'}
        assert sum(farmer['shards'] for farmer in net.status()['farmers']) == 4
        check_that_faults_act_at_once(net, bucket_id, file_id)
        farmer = net.farmers[1]
        port = farmer.port
        farmer.kill()
        assert not farmer.running
        # A fault that comes while a farmer is away is there when it comes back.
        refused = net.faults.add(Fault('status', operation='pull', message='not, now', times=0))
        assert 'shards' not in farmer.status()
        farmer.start()
        assert farmer.port == port
        assert farmer.status()['registered']
        with pytest.raises(AssertionError):
            download(net, bucket_id, file_id)
        net.faults.remove(refused)
        assert download(net, bucket_id, file_id) == shards
        ports = [item.port for item in net.farmers]
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', port), timeout=5)


def test_process_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / 'farmers').mkdir()
    (tmp_path / 'farmers' / '0').write_text('not a folder')
    with pytest.raises(NetworkError, match=r'farmer 0 ended with exit code 1: .*cannot be used'):
        Network(farmers=1, processes=True, data=tmp_path).start()


def run_program(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_program_says_ready_in_json_and_stops_at_a_signal(tmp_path: Path, number: int) -> None:
    arguments = ['up', '--port', '0', '--farmers', '2', '--json', '--data', str(tmp_path)]
    # One is the process that was started, the other is forked.
    python = PYTHON if number == signal.SIGTERM else sys.executable
    with run_program(python, '-m', 'storj.network', *arguments) as program:
        assert program.stdout is not None
        ready = json.loads(program.stdout.readline())
        assert ready['type'] == 'ready'
        assert (ready['pid'] == program.pid) is (python == PYTHON)
        assert ready['data'] == str(tmp_path)
        assert len(ready['farmers']) == 2
        assert ready['extended_key'].startswith('xpub')
        assert ready['environment']['STORJ_BRIDGE'] == ready['bridge']
        with urllib.request.urlopen(ready['bridge'], timeout=10) as answer:
            assert answer.status == 200
        program.send_signal(number)
        rest, errors = program.communicate(timeout=20)
        assert (program.returncode, rest, errors) == (0, '', '')


def test_network_whose_loop_dies_ends_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> None:
        raise SystemExit('out of nothing')

    async def begin() -> None:
        asyncio.get_running_loop().call_soon(leave)

    with Network(farmers=0, data=tmp_path) as net:
        net.call(begin())
        with pytest.raises(NetworkError, match='ended by itself'):
            net.wait(threading.Event())
    assert 'SystemExit: out of nothing' in caplog.text
    # Whatever was left open is not: the next one has the folder.
    with Network(farmers=0, data=tmp_path) as net:
        assert net.running


def children() -> set[int]:
    """Return the processes that this one started, those that it did not wait for as well."""
    listed = subprocess.run(
        ['ps', '-A', '-o', 'pid=,ppid=,comm='], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return {int(pid) for pid, parent, name in rows if int(parent) == os.getpid() and name != 'ps'}


@pytest.mark.parametrize('processes', [True, False])
def test_signal_during_the_start_ends_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    async def never(self: Farmer) -> None:
        begun.set()
        await asyncio.Event().wait()

    begun = threading.Event()
    if processes:
        (tmp_path / 'sitecustomize.py').write_text('import time; time.sleep(3600)')
        monkeypatch.setenv('PYTHONPATH', str(tmp_path))
        monkeypatch.setattr(sys, 'executable', PYTHON)
    else:
        monkeypatch.setattr(Farmer, 'wait_registered', never)
    data = tmp_path / 'data'
    before = children()

    def signal_it() -> None:
        eventually((data / 'metadisk' / 'node.json').exists if processes else begun.is_set)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=signal_it)
    thread.start()
    arguments = ['network', 'up', '--port', '0', '--farmers', '1', '--data', str(data)]
    assert main([*arguments, *(['--processes'] if processes else [])]) == 0
    thread.join()
    assert children() == before


def test_program_with_a_malformed_fault_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    arguments = ['--data', str(tmp_path), '--port', '0', '--fault', 'explode']
    assert main(['network', 'up', *arguments]) == 2
    assert 'explode' in capsys.readouterr().err
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_farmer_process_waits_for_its_bridge_and_ends_with_its_input(tmp_path: Path) -> None:
    with Network(farmers=0) as net:
        settings = FarmerSettings(tmp_path, net.bridge_url, size=100_000, protocol='0.10.0')
        with run_program(*command_of(settings, 0)) as program:
            assert program.stdout is not None
            assert program.stdin is not None
            ready = json.loads(program.stdout.readline())
            assert ready['type'] == 'ready'
            _, contacts = ask(net, 'GET', '/contacts')
            assert [contact['protocol'] for contact in contacts] == ['0.10.0']
            assert contacts[0]['nodeID'] == ready['node_id']
            program.stdin.close()
            assert program.wait(20) == 0
    # Nobody answers there any more.
    with run_program(*command_of(settings, 0)) as program:
        assert program.stderr is not None
        program.terminate()
        output, _ = program.communicate(timeout=20)
        assert output == ''


def test_farmer_process_waits_for_the_one_before(tmp_path: Path) -> None:
    with Network(farmers=0) as net:
        settings = FarmerSettings(tmp_path, net.bridge_url, size=100_000)
        # As if it were just ending, because its supervisor was killed.
        before = FolderLock(tmp_path, 'farmer')
        with run_program(*command_of(settings, 0)) as program:
            assert program.stdout is not None
            assert program.stderr is not None
            assert 'waiting until it has ended' in program.stderr.readline()
            before.close()
            assert json.loads(program.stdout.readline())['type'] == 'ready'
            program.communicate(timeout=20)


def test_plugin_offers_a_network(tmp_path: Path) -> None:
    (tmp_path / 'conftest.py').write_text("pytest_plugins = ('storj.network.pytest_plugin',)\n")
    (tmp_path / 'some_test.py').write_text(
        'def test_network(storj_network, storj_session_network):\n'
        '    assert len(storj_network.farmers) == 6\n'
        '    assert storj_network.bridge_url != storj_session_network.bridge_url\n'
    )
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'some_test.py'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTEST_ADDOPTS': ''},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert '1 passed' in result.stdout


def test_package_offers_its_names_and_no_others() -> None:
    import storj.network

    assert storj.network.FaultPlan is FaultPlan
    with pytest.raises(AttributeError, match='Nothing'):
        storj.network.__getattr__('Nothing')
