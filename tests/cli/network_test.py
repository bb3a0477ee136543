"""storj network: up, status, farmers, faults, env, down, on a network in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from storj.cli import demo
from storj.cli.network import farmer_rows
from storj.network import Network
from storj.network.control import RunningNetwork, serve_control
from tests.cli.conftest import Storj
from tests.cli.terminal import PATIENCE, Terminal

pytestmark = pytest.mark.usefixtures('forked_python')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tmp_path_factory.mktemp('network')


@pytest.fixture(scope='module')
def running(data, tmp_path_factory):
    """A network of three farmers, started as 'storj network up' starts it."""
    options = ('--port', '0', '--farmers', '3', '--mirrors', '1', '--data', data)
    words, environment = process_of('network', 'up', *options, '--json')
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        ready = json.loads(process.stdout.readline())
        yield ready
        process.send_signal(signal.SIGTERM)
        rest, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert rest == ''
    assert said == ''
    assert not (data / 'control.json').exists()


def process_of(*arguments):
    import sys
    from pathlib import Path

    environment = {k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_'))}
    environment['PYTHONPATH'] = str(Path(__file__).parents[2])
    return [sys.executable, '-m', 'storj', *map(str, arguments)], environment


def test_ready_line_has_all_that_a_program_needs(running):
    assert running['type'] == 'ready'
    assert running['bridge'].startswith('http://127.0.0.1:')
    assert len(running['farmers']) == 3
    assert running['environment']['STORJ_BRIDGE_USER'] == running['user']
    os.kill(running['pid'], 0)


def test_status_shows_farmers_space_shards_and_audits(stranger, running, data):
    done = stranger('network', 'status', '--data', data)
    assert running['bridge'] in done.out
    assert 'farmers  3 of 3 up' in done.out
    assert 'copies   2 of each shard wanted, 0 shards with fewer, 0 with none' in done.out
    assert 'WebSocket' in done.out
    assert 'HTTP' in done.out
    state = stranger('network', 'status', '--data', data, '--json').json()
    assert {'bridge', 'farmers', 'totals', 'faults', 'pid'} <= set(state)
    assert {'copies_wanted', 'under_replicated', 'without_copies'} <= set(state['totals'])
    assert {farmer['lost'] for farmer in state['farmers']} == {False}
    assert 'environment' not in state
    assert running['password'] not in done.out + json.dumps(state)


def test_environment_is_for_the_shell(stranger, running, data):
    lines = stranger('network', 'env', '--data', data).out.splitlines()
    read = dict(shlex.split(line)[1].split('=', 1) for line in lines)
    assert read == running['environment']
    account = {**stranger.environment, **read}
    assert Storj(account)('ls').err == "no buckets; make one with 'storj mb'\n"


def test_faults_are_added_and_cleared_while_it_runs(stranger, running, data):
    faults = ('network', 'faults')
    assert stranger(*faults, '--data', data, '--json').json() == []
    stranger(*faults, 'add', 'status:route=GET /buckets,status=503,times=0', '--data', data)
    account = Storj({**stranger.environment, **running['environment']})
    account('ls', code=6)
    assert len(stranger(*faults, 'list', '--data', data, '--json').json()) == 1
    stranger(*faults, 'clear', '--data', data)
    account('ls')
    refused = stranger(*faults, 'add', 'nonsense', '--data', data, code=2)
    assert "unknown fault 'nonsense'" in refused.err
    stranger(*faults, 'add', '--data', data, code=2)


@pytest.fixture
def data_home(data, tmp_path):
    """The data of a user whose own network is the one that runs."""
    folder = tmp_path / 'data-home' / 'storj'
    folder.mkdir(parents=True)
    (folder / 'network').symlink_to(data)
    return str(folder.parent)


def test_own_network_is_used_where_nothing_is_configured(stranger, running, data_home, home):
    done = stranger('mb', 'storj://found', XDG_DATA_HOME=data_home)
    note = f'using the network that runs on this machine: {running["bridge"]}\n'
    assert done.err.endswith(note)
    assert 'bucket found created' in done.out
    stranger('cp', '-', 'storj://found/a', input='x', XDG_DATA_HOME=data_home)
    done = stranger('cat', 'storj://found/a', XDG_DATA_HOME=data_home)
    assert (done.out, done.err) == ('x', note)
    [row] = stranger('ls', '--json', XDG_DATA_HOME=data_home).json()
    assert row['encrypted_name']
    stranger('rb', '--yes', 'storj://found', XDG_DATA_HOME=data_home)
    # It is used, and nothing is kept of it.
    assert not Path(home['STORJ_CONFIG_DIR']).exists()


@pytest.mark.parametrize(
    ('setting', 'value'),
    [
        ('STORJ_BRIDGE', 'http://127.0.0.1:9'),
        ('STORJ_BRIDGE_USER', 'alice@example.org'),
        ('STORJ_ENCRYPTION_KEY', 'abandon ' * 23 + 'art'),
        ('STORJ_KEYPASS', 'secret'),
    ],
)
def test_own_network_is_not_used_where_anything_is_configured(
    stranger, running, data_home, setting, value
):
    done = stranger('ls', code=4, XDG_DATA_HOME=data_home, **{setting: value})
    assert 'not logged in' in done.err
    assert 'this machine' not in done.err


def test_network_that_was_killed_is_sent_nothing(stranger, tmp_path):
    folder = tmp_path / 'data-home' / 'storj' / 'network'
    folder.mkdir(parents=True)
    (folder / 'network.lock').touch()
    with socket.create_server(('127.0.0.1', 0)) as other:
        left = {'port': other.getsockname()[1], 'secret': 'ab' * 32}
        (folder / 'control.json').write_text(json.dumps(left))
        other.setblocking(False)
        done = stranger('ls', '--json', code=4, XDG_DATA_HOME=str(tmp_path / 'data-home'))
        assert done.error()['error'] == 'NothingConfigured'
        assert "'storj network up --detach'" in done.error()['hint']
        with pytest.raises(BlockingIOError):
            other.accept()


def test_farmers_are_stopped_and_started(stranger, running, data):
    assert (
        stranger('network', 'farmers', 'stop', '1', '--data', data).out == 'farmer 1 is stopped\n'
    )
    rows = stranger('network', 'farmers', '--data', data, '--json').json()
    assert [row['running'] for row in rows] == [True, False, True]
    stranger('network', 'farmers', 'start', '1', '--data', data)
    assert 'stopped' not in stranger('network', 'farmers', '--data', data).out
    stranger('network', 'farmers', 'stop', '7', '--data', data, code=2)
    stranger('network', 'farmers', 'stop', '--data', data, code=2)


def test_control_is_for_the_owner_only(running, data):
    path = data / 'control.json'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    port = json.loads(path.read_text())['port']
    for header in ({}, {'Authorization': 'Bearer wrong'}):
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
        connection.request('GET', '/', headers=header)
        answer = connection.getresponse()
        assert answer.status == 401
        assert running['password'].encode() not in answer.read()
        connection.close()


@pytest.mark.parametrize(
    ('method', 'path', 'body', 'status'),
    [
        ('GET', '/nothing', None, 404),
        ('POST', '/farmers/99', '{"action": "stop"}', 404),
        ('POST', '/farmers/0', '{"action": "explode"}', 400),
        ('POST', '/faults', 'no json', 400),
        ('POST', '/faults', '[]', 400),
    ],
)
def test_control_refuses_what_it_does_not_know(running, data, method, path, body, status):
    state = json.loads((data / 'control.json').read_text())
    connection = http.client.HTTPConnection('127.0.0.1', state['port'], timeout=PATIENCE)
    connection.request(method, path, body, {'Authorization': f'Bearer {state["secret"]}'})
    answer = connection.getresponse()
    assert answer.status == status
    assert 'error' in json.loads(answer.read())
    connection.close()


def test_second_network_on_the_same_folder_is_refused(running, data):
    words, environment = process_of('network', 'up', '--port', '0', '--data', data)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 9
    assert 'a network runs on' in done.stderr
    assert RunningNetwork(data).status()['pid'] == running['pid']


def test_taken_port_is_an_error_at_once(running, tmp_path):
    port = running['bridge'].rpartition(':')[2]
    words, environment = process_of('network', 'up', '--port', port, '--data', tmp_path / 'n')
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f'cannot listen on 127.0.0.1:{port}' in done.stderr


def test_status_is_watched_until_ctrl_c(running, data, tmp_path):
    words, environment = process_of(
        'network', 'status', '--watch', '--every', '0.1', '--data', data
    )
    environment |= {'TERM': 'xterm-256color', 'COLUMNS': '120', 'LINES': '40'}
    with Terminal(words, environment) as screen:
        screen.expect(r'(?s)farmers  3 of 3 up.*farmers  3 of 3 up')
        screen.type('\x03')
        assert screen.end() == 130
    assert 'Traceback' not in screen.text


def test_network_that_does_not_run_says_how_to_start_one(stranger, tmp_path):
    for command in ('status', 'down', 'env', 'farmers', 'faults'):
        done = stranger('network', command, '--data', tmp_path, code=6)
        assert "'storj network up'" in done.err


def test_control_file_of_a_crashed_network_is_seen_through(stranger, tmp_path):
    (tmp_path / 'control.json').write_text('{"port": 1, "secret": "x"}')
    stranger('network', 'status', '--data', tmp_path, code=6)
    (tmp_path / 'control.json').write_text('nonsense')
    assert 'damaged' in stranger('network', 'status', '--data', tmp_path, code=1).err
    (tmp_path / 'control.json').unlink()
    # That of another user cannot be read either, and need not be damaged.
    (tmp_path / 'control.json').mkdir()
    told = stranger('network', 'status', '--data', tmp_path, code=1).err
    assert 'control.json: cannot be read: Is a directory' in told


def test_copy_of_a_folder_does_not_stop_the_original(stranger, running, data, tmp_path):
    copy = tmp_path / 'copy'
    copy.mkdir()
    (copy / 'control.json').write_bytes((data / 'control.json').read_bytes())
    for command in ('down', 'status', 'env'):
        assert str(data) in stranger('network', command, '--data', copy, code=6).err
    assert RunningNetwork(data).status()['pid'] == running['pid']


def test_missing_packages_say_how_to_install(stranger, monkeypatch, tmp_path):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    done = stranger('network', 'up', '--data', tmp_path, code=1)
    assert 'storj[network]' in done.err


def test_demo_compares_and_shows_both_channels(stranger, tmp_path):
    (tmp_path / 'a.txt').write_text('a')
    (tmp_path / 'b.bin').write_bytes(os.urandom(5_000_000))
    record = stranger('demo', tmp_path / 'a.txt', tmp_path / 'b.bin', '--json').json()
    assert record['equal'] is True
    assert [file['name'] for file in record['files']] == ['a.txt', 'b.bin']
    assert {row['channel'] for row in record['shards']} == {'HTTP', 'WebSocket'}
    assert {row['kind'] for row in record['shards']} == {'data', 'parity'}
    stranger('demo', tmp_path / 'none', code=5)


def test_demo_without_files_stores_its_package_and_random_data(stranger, monkeypatch):
    assert demo._RANDOM_SIZE == 64 * 1024 * 1024
    monkeypatch.setattr(demo, '_RANDOM_SIZE', 1024 * 1024)
    record = stranger('demo', '--json').json()
    assert record['equal'] is True
    assert {'README.rst', 'storj/http.py', 'random-64-MiB.bin'} <= {
        file['name'] for file in record['files']
    }


def test_demo_of_one_file_speaks_of_one_and_leaves_nothing(stranger, home, tmp_path):
    (tmp_path / 'a.txt').write_text('a')
    done = stranger('demo', tmp_path / 'a.txt')
    assert done.out.endswith('the file came back equal\n')
    assert 'uploading 1 file, 1 B' in done.err
    assert list(Path(home['HOME']).iterdir()) == []


def test_demo_fails_when_a_file_comes_back_different(stranger, tmp_path, monkeypatch):
    (tmp_path / 'a.txt').write_text('a')
    monkeypatch.setattr('filecmp.cmp', lambda *_, **__: False)
    done = stranger('demo', tmp_path / 'a.txt', code=7)
    assert 'came back different: a.txt' in done.err


def test_taken_port_or_folder_talks_of_no_login(stranger, network, tmp_path):
    port = network.bridge_url.rpartition(':')[2]
    for detach in ((), ('--detach',)):
        done = stranger(
            'network', 'up', '--data', tmp_path / 'net', '--port', port, *detach, code=1
        )
        assert 'Address already in use' in done.err
        assert 'login' not in done.err
        taken = stranger('network', 'up', '--data', network.data, '--port', '0', *detach, code=9)
        assert f'a network runs on {network.data} already' in taken.err


def test_state_of_a_farmer_names_a_wrong_clock():
    card = {'protocol': '1.2.0', 'address': '127.0.0.1', 'port': 4000, 'node_id': 'a' * 40}
    rows = farmer_rows(
        [
            {**card, 'state': 'up', 'clock_skew': None},
            {**card, 'state': 'up', 'clock_skew': 70.4},
            {**card, 'state': 'stopped', 'clock_skew': 70.4},
        ]
    )
    assert [row['state'] for row in rows] == ['up', 'clock +70 s', 'stopped']


def test_status_shows_what_does_not_work(stranger, tmp_path):
    with Network(1, size=100, data=tmp_path, durable=False) as net, serve_control(net):
        net.farmers[0].restarts, net.farmers[0].last_end = 2, 'signal 9'
        done = stranger('network', 'status', '--data', tmp_path)
        state = stranger('network', 'status', '--data', tmp_path, '--json').json()
    problem = 'it can take no shards: its size is less than 15,360 bytes'
    assert f'problem  farmer 0: {problem}' in done.out
    assert 'ended    farmer 0, 2 times, the last time by signal 9' in done.out
    (farmer,) = state['farmers']
    assert farmer['problems'][0].startswith(problem)
    assert (state['problems'], farmer['restarts'], farmer['state']) == ([], 2, 'up')
