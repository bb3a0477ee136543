"""``python -m benchmarks.hostile --cases 100000``: mutated answers over every call of the clients.

A process of its own answers as a bridge and as a MetaDisk node do, but with what :func:`mutated`
makes of an honest answer: other types, other texts, bytes changed or cut off, and small answers
that unfold to large ones. Every public method of ``storj.http.Client`` and of
``storj.metadisk.MetaDisk`` is called, and what it returns is used as programs use it. A case may
end with an error of ours; it may not end with another exception, and this process may not take
more than 150 MiB. The seed is printed first: the same seed makes the same answers.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gzip
import io
import json
import pickle
import random
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ecdsa import SECP256k1, SigningKey

from benchmarks.measure import MIB
from storj.exception import StorjError
from storj.http import Client, Retries
from storj.metadisk import MetaDisk
from storj.model import ExchangeReport, Shard
from storj.object import Object
from storj.transfer import ChannelLimits, RetryPolicy, TransferConfig

#: Bytes that the calling process may take.
MOST_MEMORY = 150 * MIB

#: Cases between two that move a file: one of those makes many requests.
TRANSFERS_EVERY = 40

MNEMONIC = 'abandon ' * 23 + 'art'
ID, OTHER, HASH, NODE = '5' * 24, 'a' * 24, '1' * 64, '2' * 40
TIME = '2016-11-23T10:00:00.000Z'
KEY = SigningKey.from_string(b'\x01' * 32, curve=SECP256k1).get_verifying_key()

BUCKET = {'id': ID, 'name': 'photos', 'user': 'e@x', 'created': TIME, 'storage': 0, 'transfer': 0}
BUCKET |= {'status': 'Active', 'pubkeys': [], 'publicPermissions': [], 'encryptionKey': ''}
HMAC = {'type': 'sha512', 'value': 'f' * 128}
FILE = {'id': OTHER, 'bucket': ID, 'filename': 'cat.jpg', 'mimetype': 'image/jpeg', 'size': 100}
FILE |= {'frame': ID, 'created': TIME, 'hmac': HMAC, 'index': HASH}
FARMER = {'address': '127.0.0.1', 'port': 1, 'nodeID': NODE, 'protocol': '1.2.0'}
FARMER |= {'lastSeen': TIME, 'userAgent': '8.7.3', 'timeoutRate': 0.01, 'responseTime': 12.5}
POINTER = {'index': 0, 'hash': NODE, 'size': 100, 'parity': False, 'token': HASH}
POINTER |= {'farmer': FARMER, 'operation': 'PULL'}
FRAME = {'id': ID, 'user': 'e@x', 'created': TIME, 'shards': [ID], 'locked': False, 'size': 100}
MIRRORS = {'established': [{'shardHash': NODE, 'contact': FARMER, 'contract': {}}], 'available': []}
USER = {'id': 'e@x', 'email': 'e@x', 'created': TIME, 'activated': True}
TOKEN = {'token': HASH, 'bucket': ID, 'operation': 'PULL', 'expires': TIME, 'id': HASH}
BANDWIDTH = {name: {'incoming': 1, 'outgoing': None} for name in ('current', 'total', 'limits')}
STATUS = {'bandwidth': BANDWIDTH, 'storage': {'capacity': 9, 'used': 1, 'max_file_size': 5}}
STATUS |= {'datacoin': {'address': 'D', 'balance': 1.5, 'block': 7}}

#: The end of a route, and what an honest bridge or node answers there. The first that fits counts.
HONEST: tuple[tuple[str, Any], ...] = (
    ('/files/info', FILE),
    ('/mirrors', [MIRRORS]),
    ('/tokens', TOKEN),
    ('/files', [FILE, FILE | {'id': ID}]),
    ('/files/' + OTHER, [POINTER]),
    ('/info', FILE),
    ('/file-ids/', {'id': OTHER}),
    ('/bucket-ids/', {'id': ID}),
    ('/buckets', [BUCKET, BUCKET | {'id': OTHER}]),
    ('/buckets/' + ID, BUCKET),
    ('/frames', [FRAME]),
    ('/frames/' + ID, FRAME | POINTER),
    ('/contacts', [FARMER]),
    ('/contacts/' + NODE, FARMER),
    ('/keys', [{'key': '02' + HASH, 'label': 'l', 'user': 'e@x'}]),
    ('/token/new', {'token': 'a1b2c3d4e5f6g7h8'}),
    ('/token/prices', {'prices': [{'amount': 10**9, 'cost': 10}]}),
    ('/api/status', STATUS),
    ('/api/upload', {'filehash': HASH, 'key': HASH}),
    ('/balance/', {'balance': 5}),
    ('/redeem/', {'status': 'ok'}),
    ('/api/find/', {'filehash': HASH, 'filename': 'n', 'filesize': 5, 'datetime': 1.4e9}),
)
INFO = {'swagger': '2.0', 'info': {'version': '7.7.1', 'x-core-version': '6.4.2'}}


def honest(path: str) -> Any:
    """Return what an honest bridge or node answers on a path."""
    for end, value in HONEST:
        if path.endswith(end) or (end.endswith('/') and end in path):
            return value
    return INFO | USER


# -- mutations -------------------------------------------------------------------------------------

TEXTS = (
    *('', ' ', '\0', '..', '../../etc/passwd', '/', '\x1b]52;c;x\x07', '\u202egpj.exe', '\ud800'),
    *('é' * 40, '😀', 'x' * 5000, '9' * 5000, 'NaN', '1e400', '0x10', TIME[:-1], '0001-01-01'),
    *('9999-12-31T23:59:59.999-14:00', '2016-11-31', '20161123', '1479895200000', ID, 'sha512'),
    *('reedsolomon', 'http://[', '::1', '127.0.0.1', 'a' * 65, '=' * 8, 'QUJD', HASH, NODE),
)
NUMBERS = (
    *(0, -1, 1, 255, 2**31, 2**53, 2**63, 2**64, 10**30, 10**400, -(10**400)),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, 1e18),
)
NAMES = ('self', 'extra', 'id', 'error', '_client', '__class__', 'keys', 'get', 'to_dict', 'name')
NAMES += ('filename', 'token', 'hash', 'farmer', 'index', 'shards', 'mirrors', '', '\ud800')


def rubbish(chance: random.Random) -> Any:
    """Return any JSON value."""
    kind = chance.randrange(8)
    if kind < 3:
        return chance.choice(TEXTS)
    if kind < 5:
        return chance.choice(NUMBERS)
    if kind == 5:
        return chance.choice((None, True, False))
    if kind == 6:
        value: Any = chance.choice(TEXTS)
        for _ in range(chance.choice((1, 2, 40))):
            value = chance.choice(([value], {chance.choice(NAMES): value}))
        return value
    return chance.choice(([], {}, [None], [[]], [{}], {'id': None}, [[FARMER]], FILE))


def mutated(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one part of it changed."""
    if isinstance(value, list) and value and chance.random() < 0.85:
        copied = list(value)
        place = chance.randrange(len(copied))
        copied[place] = mutated(copied[place], chance)
        return copied * chance.choice((1, 1, 1, 1, 300))
    if isinstance(value, dict) and value and chance.random() < 0.9:
        copied = dict(value)
        name = chance.choice(list(copied))
        match chance.randrange(6):
            case 0:
                del copied[name]
            case 1:
                copied[chance.choice(NAMES)] = rubbish(chance)
            case _:
                copied[name] = mutated(copied[name], chance)
        return copied
    return rubbish(chance)


def bomb(chance: random.Random) -> bytes:
    """Return a long answer that is short on the wire."""
    # Below, at and above the bounds of storj.rest.decoding.
    count = chance.choice((10_000, 49_999, 240_000, 2_000_000, 2_800_000))
    return chance.choice(
        (
            lambda: b'[' + b','.join([b'{}'] * count) + b']',
            lambda: b'[' * count + b']' * count,
            lambda: b'{"a":' * (count // 2) + b'1' + b'}' * (count // 2),
            lambda: b'[' + b','.join([b'""'] * count) + b']',
            lambda: b'{' + b','.join(b'"%x":%d' % (n, n + 999) for n in range(count // 8)) + b'}',
            lambda: b'["' + b'a' * (4 * count) + '😀'.encode() + b'"]',
            lambda: b'[' + b','.join([b'{"id":"%s"}'] * (count // 4)) + b']',
            lambda: b'1' * count,
        )
    )()


def answer(path: str, query: str, seed: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer to one request."""
    chance = random.Random(f'{seed} {path}?{query}')
    headers = {'Content-Type': 'application/json'}
    value = honest(path)
    if chance.random() < 0.8:
        value = mutated(value, chance)
    if chance.random() < 0.2:
        value = mutated(value, chance)
    body = json.dumps(value).encode()
    kind = chance.random()
    if kind > 0.995:
        body = bomb(chance)
    elif kind < 0.12 and body:
        changed = bytearray(body)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        body = bytes(changed)
    elif kind < 0.18:
        body = body[: chance.randrange(len(body) + 1)]
    elif kind < 0.22:
        body = chance.choice((b'', b'null', b']', b'NaN', b'\xff', b'\xef\xbb\xbf' + body, b'{}'))
    if chance.random() < 0.1:
        headers['Retry-After'] = str(rubbish(chance)).encode('ascii', 'replace').decode()
        headers['Retry-After'] = ''.join(filter(str.isprintable, headers['Retry-After']))[:99]
        place = chance.choice(('http://[', '//x', '/y', 'https://a:b@c:99999/z', 'javascript:1'))
        headers['Location'] = place
    if len(body) > 4096 or chance.random() < 0.05:
        headers['Content-Encoding'] = 'gzip'
        body = gzip.compress(body, 1)
    status = 200 if chance.random() < 0.9 else chance.choice((201, 301, 304, 400, 404, 429, 500))
    return status, headers, body


def serve(seed: str) -> None:
    """Answer until standard input ends; print the port first."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        # Head and body are two small writes.
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get('Content-Length') or 0))
            path, _, query = self.path.partition('?')
            if '/api/download/' in path:
                status, headers, body = 200, {}, b'x' * 99
            else:
                status, headers, body = answer(path, query, seed)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(b'' if status == 304 else body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.daemon_threads = True
        print(server.server_address[1], flush=True)
        server.timeout = 0.5
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        sys.stdin.read()
        server.shutdown()


# -- the calls -------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Client], Any]] = {
    'info': Client.info,
    'profile': Client.profile,
    'health': Client.health,
    'bucket_create': lambda c: c.bucket_create('photos', 1, 2),
    'bucket_delete': lambda c: c.bucket_delete(ID),
    'bucket_files': lambda c: c.bucket_files(ID),
    'bucket_file_pages': lambda c: list(c.bucket_file_pages(ID)),
    'bucket_get': lambda c: c.bucket_get(ID),
    'bucket_id': lambda c: c.bucket_id('photos'),
    'bucket_list': Client.bucket_list,
    'bucket_name': lambda c: [c.bucket_name(b.name) for b in c.bucket_list() if b.name],
    'bucket_set_keys': lambda c: c.bucket_set_keys(ID, 'photos', [KEY]),
    'bucket_set_mirrors': lambda c: c.bucket_set_mirrors(ID, OTHER, 2),
    'check_file_existence_in_bucket': lambda c: c.check_file_existence_in_bucket(ID, 'cat.jpg'),
    'contact_list': Client.contact_list,
    'contact_lookup': lambda c: c.contact_lookup(NODE),
    'file_create': lambda c: c.file_create(ID, ID, 'cat.jpg', index=HASH, hmac='f' * 128),
    'file_id': lambda c: c.file_id(ID, 'cat.jpg'),
    'file_metadata': lambda c: c.file_metadata(ID, OTHER),
    'file_mirrors': lambda c: c.file_mirrors(ID, OTHER),
    'file_name': lambda c: [c.file_name(ID, f.get('filename')) for f in c.bucket_files(ID)][:3],
    'file_pointers': lambda c: c.file_pointers(ID, OTHER),
    'file_remove': lambda c: c.file_remove(ID, OTHER),
    'frame_add_shard': lambda c: c.frame_add_shard(Shard(hash=NODE, size=9, index=0), ID),
    'frame_create': Client.frame_create,
    'frame_delete': lambda c: c.frame_delete(ID),
    'frame_get': lambda c: c.frame_get(ID),
    'frame_list': Client.frame_list,
    'key_delete': lambda c: c.key_delete(KEY),
    'key_dump': Client.key_dump,
    'key_list': Client.key_list,
    'key_register': lambda c: c.key_register(KEY),
    'send_exchange_report': lambda c: c.send_exchange_report(ExchangeReport(dataHash=NODE)),
    'token_create': lambda c: c.token_create(ID, 'PULL', OTHER),
    'user_activate': lambda c: c.user_activate('t'),
    'user_activation_email': lambda c: c.user_activation_email('e@x'),
    'user_create': lambda c: c.user_create('e@x', 'pw'),
    'user_deactivate': lambda c: c.user_deactivate('t'),
    'user_delete': lambda c: c.user_delete('e@x'),
    'user_reset_password': lambda c: c.user_reset_password('e@x', 'pw'),
    'user_reset_password_confirmation': lambda c: c.user_reset_password_confirmation('t', 'pw'),
}
TRANSFERS: dict[str, Callable[[Client], Any]] = {
    'file_download': lambda c: c.file_download(ID, OTHER),
    'file_upload': lambda c: c.file_upload(ID, b'x' * 100, name='cat.jpg', resume=False),
    'file_verify': lambda c: c.file_verify(ID, OTHER),
}
NODE_CALLS: dict[str, Callable[[MetaDisk], Any]] = {
    'token_new': MetaDisk.token_new,
    'balance': MetaDisk.balance,
    'prices': MetaDisk.prices,
    'redeem': lambda node: node.redeem('CODE'),
    'upload': lambda node: node.upload(b'x' * 100),
    'download': lambda node: node.download(f'{HASH}?key={HASH}', io.BytesIO()),
    'find': lambda node: node.find(HASH),
    'status': MetaDisk.status,
}
#: Public methods that ask nothing, or belong to keys and their files.
QUIET = {'authenticate', 'close', 'key_export', 'key_generate', 'key_import', 'once'}


def methods(kind: type) -> set[str]:
    """Return the names of the public methods of a class."""
    return {name for name in dir(kind) if name[0] != '_' and callable(getattr(kind, name))}


def use(result: Any) -> None:
    """Do with a result what programs do."""
    if isinstance(result, Iterator):
        result = list(result)
    repr(result)
    if isinstance(result, Object):
        fields = result.to_dict()
        json.dumps(fields)
        assert copy.deepcopy(result) == result == pickle.loads(pickle.dumps(result))
        # A pointer is the dict that the bridge sent, fields of None included.
        assert {name: v for name, v in dict(result).items() if v is not None} == fields
        assert len(str(result)) < 100_000
        getattr(result, 'name', None)
        _ = [result.get(name) for name in list(result)[:20]]
    elif isinstance(result, Mapping):
        json.dumps(result)
    elif isinstance(result, Iterable) and not isinstance(result, str | bytes | io.IOBase):
        entries = list(result)
        for entry in (*entries[:5], *entries[-2:]):
            use(entry)


def refuse_other_hosts(event: str, arguments: Any) -> None:
    """Keep mutated addresses from being called; an audit hook."""
    if event == 'socket.connect':
        host = arguments[1][0]
    elif event == 'socket.getaddrinfo':
        host = arguments[0]
    else:
        return
    if host not in ('127.0.0.1', b'127.0.0.1'):
        raise OSError(f'not called: {host!r}')


def peak() -> int:
    """Return the most bytes that this process has taken."""
    status = Path('/proc/self/status').read_text(encoding='ascii')
    return 1024 * int(status.partition('VmHWM:')[2].split()[0])


class Cases:
    """Calls every method again and again.

    Args:
        address (str): of the server.
        folder (Path): for what transfers write.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._config = TransferConfig(
            shard_attempts=1,
            bridge_retry=RetryPolicy(attempts=1, delay=0),
            channel=ChannelLimits(connect=2, first_byte=2, acknowledge=2, stall=2),
            temp_dir=folder,
            state_dir=folder / 'state',
            flush_seconds=0.1,
        )
        self.outcomes: Counter[str] = Counter()
        self.foreign: list[str] = []

    def run(self, number: int) -> None:
        """Run one case and count how it ended."""
        address = f'{self._address}/{number}'
        names = TRANSFERS if number % TRANSFERS_EVERY == 0 else CALLS | NODE_CALLS
        name = list(names)[number // (TRANSFERS_EVERY if names is TRANSFERS else 1) % len(names)]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                if name in NODE_CALLS:
                    with MetaDisk(address, token='t', timeout=9) as node:
                        use(NODE_CALLS[name](node))
                else:
                    words = MNEMONIC if names is TRANSFERS or number % 3 else None
                    with Client(
                        'e@x',
                        'pw',
                        address,
                        mnemonic=words,
                        timeout=9,
                        retries=Retries(count=0),
                        transfer_config=self._config,
                    ) as client:
                        use(names[name](client))
            self.outcomes['answer'] += 1
        except StorjError as error:
            self.outcomes[type(error).__name__] += 1
        except Exception:
            self.foreign.append(f'case {number}, {name}:\n{traceback.format_exc()}')


def main() -> int:
    """Read the command line, run the cases and print the outcomes."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.hostile', description=__doc__)
    parser.add_argument('--cases', type=int, default=100_000)
    parser.add_argument('--first', type=int, default=1, help='number of the first case')
    parser.add_argument('--seed', default=None)
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed or str(random.SystemRandom().randrange(10**6))
    if options.serve:
        serve(seed)
        return 0
    for kind, known in ((Client, {*CALLS, *TRANSFERS} | QUIET), (MetaDisk, {*NODE_CALLS, 'close'})):
        if methods(kind) != known:
            print(f'not called: {methods(kind) ^ known}')
            return 1
    print(f'seed {seed}', flush=True)
    sys.addaudithook(refuse_other_hosts)
    command = [sys.executable, '-m', 'benchmarks.hostile', '--serve', '--seed', seed]
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server,
    ):
        assert server.stdin
        assert server.stdout
        cases = Cases(f'http://127.0.0.1:{int(server.stdout.readline())}', Path(folder))
        for number in range(options.first, options.first + options.cases):
            cases.run(number)
        server.stdin.close()
    for text in cases.foreign[:20]:
        print(text)
    for outcome, count in cases.outcomes.most_common():
        print(f'{count:8} {outcome}')
    seconds = time.monotonic() - begin
    print(f'{len(cases.foreign):8} foreign exceptions')
    print(f'{options.cases} cases in {seconds:.0f} s, peak {peak() / MIB:.0f} MiB')
    return 1 if cases.foreign or peak() > MOST_MEMORY else 0


if __name__ == '__main__':
    sys.exit(main())
