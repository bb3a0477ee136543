"""A network of many processes loses some of them, and its users do not notice."""

from __future__ import annotations

import hashlib
import random
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from storj.crypto import mnemonic
from storj.http import Client
from storj.model import Bucket
from tests.cluster.services import DEPLOY, Services, program
from tests.network.bridges import eventually
from tests.network.postgresql import MissingError

EMAIL, PASSWORD = 'user@example.org', 'correct horse battery staple'
#: What a bridge does sooner than an operator would want, so that a test sees it.
SETTINGS = {
    'STORJ_WORKERS': '1',
    'STORJ_LOST_AFTER': '8s',
    'STORJ_REPAIR_INTERVAL': '1s',
    'FARMER_SIZE': '1GB',
}
#: Seconds for which the object store answers nobody: longer than farmers are given to answer.
HANG = 12.0
#: Seconds after which each user stores the next file: the processor is for the services.
REST = 0.2


class Users:
    """Two threads that store files and read them again, until they are stopped.

    Attributes:
        stored (dict[str, str]): by the id of a file, the SHA-256 of its content, once the network
            has confirmed that it is stored.
        failures (list[str]): what did not work.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._bucket: Bucket = client.bucket_create('cluster')
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(2)
        ]
        self.stored: dict[str, str] = {}
        self.failures: list[str] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, files: int = 3) -> None:
        """Wait until so many more files have been stored."""
        wanted = len(self.stored) + files
        eventually(lambda: bool(self.failures) or len(self.stored) >= wanted, 90)
        assert not self.failures

    def read(self, file_id: str, number: int = 9) -> str:
        """Return the SHA-256 of what the network gives back."""
        target = self._folder / f'read {number}'
        self._client.file_download(self._bucket.id, file_id, target, overwrite=True)
        return hashlib.sha256(target.read_bytes()).hexdigest()

    def check_all(self) -> None:
        """Check that the network gives every file back that it confirmed."""
        assert {each: self.read(each) for each in self.stored} == self.stored

    def _work(self, number: int) -> None:
        source = self._folder / f'written {number}'
        try:
            while not self._stop.wait(REST):
                content = random.randbytes(random.randrange(1, 300_000))
                source.write_bytes(content)
                name = f'{number} {time.monotonic_ns()}'
                file = self._client.file_upload(self._bucket.id, source, name=name)
                self.stored[file.id] = hashlib.sha256(content).hexdigest()
                file_id, known = random.choice(list(self.stored.items()))
                if self.read(file_id, number) != known:
                    self.failures.append(f'{file_id} has another content')
        except Exception as error:
            self.failures.append(f'{type(error).__name__}: {error}')


@pytest.fixture(scope='module')
def services(tmp_path_factory: pytest.TempPathFactory, forked_python: None) -> Iterator[Services]:
    for name in ('haproxy', 'weed'):
        program(name)
    try:
        services = Services(tmp_path_factory.mktemp('cluster'), **SETTINGS)
    except MissingError as error:
        pytest.skip(str(error))
    try:
        services.start_all()
        yield services
    finally:
        services.end_all()


@pytest.fixture(scope='module')
def users(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    words = mnemonic.generate()
    with Client(EMAIL, PASSWORD, services.url, mnemonic=words) as client, ExitStack() as stack:
        client.user_create(EMAIL, PASSWORD)
        users = Users(client, tmp_path_factory.mktemp('users'))
        stack.callback(users.stop)
        users.start()
        users.wait_for_more()
        yield users


def lose_a_bridge(services: Services, users: Users) -> None:
    services.kill('bridge-a')
    users.wait_for_more()
    services.start('bridge-a')
    services.wait('bridge-a', 6382, '/ready')


def update_a_bridge(services: Services, users: Users) -> None:
    services.stop('bridge-b')
    users.wait_for_more()
    services.start('bridge-b')
    services.wait('bridge-b', 6382, '/ready')


def lose_two_farmers(services: Services, users: Users) -> None:
    services.kill('farmer-1')
    services.kill('farmer-5')
    users.wait_for_more()
    # As many as may be lost before copies are made again.
    services.wait_for_copies(lost=2)


def restart_the_database(services: Services, users: Users) -> None:
    services.stop('postgres')
    services.start('postgres')


def hang_the_object_store(services: Services, users: Users) -> None:
    services.signal('seaweedfs', signal.SIGSTOP)
    threading.Event().wait(HANG)
    services.signal('seaweedfs', signal.SIGCONT)


@pytest.mark.long
@pytest.mark.timeout(540)
def test_users_notice_no_fault(services: Services, users: Users) -> None:
    faults: tuple[Callable[[Services, Users], None], ...] = (
        # Before a bridge is killed, perhaps within a round: another takes that a minute later.
        lose_two_farmers,
        lose_a_bridge,
        update_a_bridge,
        restart_the_database,
        hang_the_object_store,
    )
    for fault in faults:
        fault(services, users)
        users.wait_for_more()
    users.stop()
    assert not users.failures
    services.wait_for_copies(lost=2)
    users.check_all()


def test_client_does_not_choose_the_id_of_its_request(services: Services) -> None:
    headers = {'X-Request-Id': 'chosen'}
    asked = requests.get(f'{services.url}/health', headers=headers, timeout=10)
    assert len(asked.headers['X-Request-Id']) == len(str(uuid.uuid4()))
    # That of the proxy, which bridges believe.
    at_bridge = requests.get(services.at('bridge-a', 6382, '/health'), headers=headers, timeout=10)
    assert at_bridge.headers['X-Request-Id'] == 'chosen'


def test_monitoring_names_metrics_that_bridges_have(services: Services) -> None:
    answer = requests.get(services.at('bridge-a', 9464, '/metrics'), timeout=10)
    served = set(re.findall(r'^(storj_\w+)', answer.text, re.MULTILINE))
    for path in (DEPLOY / 'monitoring').iterdir():
        assert set(re.findall(r'\bstorj_\w+', path.read_text())) <= served, path


def test_bridges_on_a_restored_database_give_all_files_back(
    services: Services, users: Users
) -> None:
    users.stop()
    url = services.restore_database('restored')
    bridges = ('bridge-a', 'bridge-b')
    for name in bridges:
        services.stop(name)
        services.start(name, STORJ_BRIDGE_DATABASE=url)
    for name in bridges:
        services.wait(name, 6382, '/ready')
    services.wait('proxy', 6382, '/ready')
    users.check_all()
