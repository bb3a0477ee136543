"""The node's JSON API against a real network: statuses, names of errors, headers, bytes."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

pytest.importorskip('aiohttp')

from storj.crypto.convergent import Reference, content_stream
from storj.network import Network
from storj.network.metadisk.names import clean_name

VECTORS = json.loads(
    (Path(__file__).parent.parent / 'vectors' / 'metadisk.json').read_text(encoding='utf-8')
)
HASH, _, KEY = VECTORS['tutorial_check']['program_output'].partition('?key=')
UNKNOWN = '0' * 64
GIBIBYTE = 1024**3
SHARD = 4 * 1024 * 1024


@pytest.fixture(scope='module')
def network() -> Iterator[Network]:
    with Network(farmers=3) as network:
        yield network


@pytest.fixture(scope='module')
def url(network: Network) -> str:
    return network.bridge_url


def upload(url: str, content: bytes, name: str = 'test.dat', **fields: str) -> requests.Response:
    return requests.post(
        f'{url}/api/upload', files={'file': (name, content)}, data=fields, timeout=60
    )


def stored(url: str, content: bytes, name: str = 'test.dat') -> Reference:
    answer = upload(url, content, name)
    assert answer.status_code == 201, answer.text
    return Reference(**answer.json())


def get(url: str, path: str, **options: object) -> requests.Response:
    return requests.get(url + path, timeout=60, **options)


def post(url: str, path: str, **options: object) -> requests.Response:
    return requests.post(url + path, timeout=60, **options)


def key_of(network: Network) -> str:
    return json.loads((network.data / 'metadisk' / 'node.json').read_text())['api_key']


def login_of(network: Network) -> tuple[str, str]:
    """Return the account of the node itself."""
    kept = json.loads((network.data / 'metadisk' / 'node.json').read_text())
    return kept['email'], hashlib.sha256(kept['password'].encode()).hexdigest()


def pattern(size: int) -> bytes:
    block = bytes((7 * i + 3) % 251 for i in range(251))
    return (block * (size // 251 + 1))[:size]


# -- the tutorial -------------------------------------------------------------------------------

# Recreated from the tutorial's description, step by step; only the node's address is another.
TUTORIAL = """\
import requests
import sys
from sys import argv, exit

NODE_URL = "%s"

def getToken():
    r = requests.post(NODE_URL+"/accounts/token/new")
    token = r.json()["token"]
    sys.stderr.write("token="+token+"\\n")
    return token

def upload(file):
    token = getToken()
    r = requests.post(NODE_URL+"/api/upload", files={'file': (file, open(file, 'rb'))},
                      data={"token": token})
    j = r.json()
    print(file+" is uploaded. key=\\n"+j["filehash"]+"?key="+j["key"]+"\\n")

def download(key):
    r = requests.get(NODE_URL+"/api/download/"+key)
    print(str(r.content))

if argv[1] == "upload":
    upload(argv[2])
else:
    download(argv[2])
"""


def test_tutorial_program_prints_the_tutorials_own_hash_and_key(url: str, tmp_path: Path) -> None:
    (tmp_path / 'storj.py').write_text(TUTORIAL % url)
    (tmp_path / 'test.dat').write_bytes(b'test data\n')

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, 'storj.py', *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )

    up = run('upload', 'test.dat')
    assert up.stdout == f'test.dat is uploaded. key=\n{HASH}?key={KEY}\n\n'
    name, _, token = up.stderr.strip().partition('=')
    assert name == 'token'
    assert len(token) == 16
    down = run('download', f'{HASH}?key={KEY}')
    assert ast.literal_eval(down.stdout) == b'test data\n'
    missing = run('download', UNKNOWN)
    assert json.loads(ast.literal_eval(missing.stdout)) == {'error': 'file-not-found'}


# -- accounts -----------------------------------------------------------------------------------


def test_tokens_are_made_and_have_no_balance(url: str) -> None:
    answer = post(url, '/accounts/token/new')
    assert answer.status_code == 200
    assert answer.headers['Content-Type'] == 'application/json'
    assert list(answer.json()) == ['token']
    balance = get(url, f'/accounts/token/balance/{answer.json()["token"]}')
    assert (balance.status_code, balance.json()) == (200, {'balance': 0})
    assert get(url, '/accounts/token/new').status_code == 405
    assert get(url, '/accounts/token/balance/' + 'x' * 500).json() == {'balance': 0}


def test_answers_are_sorted_and_indented_but_compact_for_scripts(url: str) -> None:
    plain = get(url, '/api/status')
    assert plain.text == json.dumps(plain.json(), indent=2, sort_keys=True)
    compact = get(url, '/api/status', headers={'X-Requested-With': 'XMLHttpRequest'})
    assert '\n' not in compact.text
    assert compact.json() == plain.json()


def test_prices_are_those_of_the_public_nodes(url: str) -> None:
    assert get(url, '/accounts/token/prices').json() == {
        'prices': [{'amount': 107374182400, 'cost': 500}, {'amount': 1073741824000, 'cost': 5000}]
    }


@pytest.mark.parametrize(
    ('options', 'status', 'answer'),
    [
        ({'json': {'promocode': 'PLEASE'}}, 201, {'status': 'ok'}),
        ({'json': {'promocode': 'please'}}, 403, {'status': 'error'}),
        ({'json': {'promocode': None}}, 403, {'status': 'error'}),
        ({'json': {}}, 403, {'status': 'error'}),
        ({'data': {'promocode': 'PLEASE'}}, 403, {'status': 'error'}),
        ({'params': {'promocode': 'PLEASE'}}, 403, {'status': 'error'}),
        ({'json': ['PLEASE']}, 400, {'status': 'bad-request'}),
        (
            {'data': b'{', 'headers': {'Content-Type': 'application/json'}},
            400,
            {'status': 'bad-request'},
        ),
    ],
)
def test_promocodes_are_redeemed_from_json_only(
    url: str, options: dict, status: int, answer: dict
) -> None:
    token = post(url, '/accounts/token/new').json()['token']
    response = post(url, f'/accounts/token/redeem/{token}', **options)
    assert (response.status_code, response.json()) == (status, answer)
    balance = get(url, f'/accounts/token/balance/{token}').json()['balance']
    assert balance == (GIBIBYTE if status == 201 else 0)
    if status == 201:
        again = post(url, f'/accounts/token/redeem/{token}', **options)
        assert (again.status_code, again.json()) == (403, {'status': 'error'})


@pytest.mark.parametrize(
    ('body', 'status'),
    [
        ({'bytes': 30}, 200),
        ({'bytes': '30'}, 200),
        ({'bytes': 30.9}, 200),
        ({'bytes': -1}, 400),
        ({'bytes': 'many'}, 400),
        ({'bytes': None}, 400),
        ({'bytes': True}, 400),
        ({'bytes': 2**64}, 400),
        ({'bytes': 1e400}, 400),
        ({}, 400),
    ],
)
def test_deposits_take_what_is_a_number_of_bytes(network: Network, body: dict, status: int) -> None:
    token = post(network.bridge_url, '/accounts/token/new').json()['token']
    answer = post(
        network.bridge_url,
        f'/accounts/token/deposit/{token}',
        data=json.dumps(body),
        headers={'Authentication': key_of(network), 'Content-Type': 'application/json'},
    )
    named = 'ok' if status == 200 else 'bad-request'
    assert (answer.status_code, answer.json()) == (status, {'status': named})
    balance = get(network.bridge_url, f'/accounts/token/balance/{token}').json()
    assert balance == {'balance': 30 if status == 200 else 0}


def test_moving_balances_needs_the_key(network: Network) -> None:
    for path in ('deposit/t', 'withdraw/t'):
        for headers in ({}, {'Authentication': 'x'}, {'Authorization': key_of(network)}):
            answer = post(
                network.bridge_url, f'/accounts/token/{path}', json={'bytes': 1}, headers=headers
            )
            assert answer.status_code == 401
            assert answer.json() == {'status': 'invalid-authentication'}
    answer = post(network.bridge_url, '/accounts/coinbase/success/x/1', json={})
    assert (answer.status_code, answer.json()) == (401, {'status': 'invalid-authentication'})


def test_withdrawals_are_all_or_nothing(network: Network) -> None:
    url, headers = network.bridge_url, {'Authentication': key_of(network)}
    token = post(url, '/accounts/token/new').json()['token']
    path = f'/accounts/token/withdraw/{token}'
    short = {'error': 'balance-insufficient'}
    never = post(url, path, json={'bytes': 0}, headers=headers)
    assert (never.status_code, never.json()) == (402, short)
    post(url, f'/accounts/token/deposit/{token}', json={'bytes': 5}, headers=headers)
    assert post(url, path, json={'bytes': 6}, headers=headers).json() == short
    assert post(url, path, json={'bytes': 5}, headers=headers).json() == {'status': 'ok'}
    assert get(url, f'/accounts/token/balance/{token}').json() == {'balance': 0}


def test_payments_credit_the_orders_token(network: Network) -> None:
    url, path = network.bridge_url, f'/accounts/coinbase/success/{key_of(network)}'
    paid = post(url, f'{path}/107374182400', json={'order': {'custom': 'paying token'}})
    assert (paid.status_code, paid.json()) == (200, {'status': 'ok'})
    assert get(url, '/accounts/token/balance/paying token').json() == {'balance': 107374182400}
    for body in ({}, {'order': None}, {'order': {'custom': 7}}):
        refused = post(url, f'{path}/1', json=body)
        assert (refused.status_code, refused.json()) == (400, {'status': 'bad-request'})


# -- upload -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'kept'),
    [
        ('test.dat', 'test.dat'),
        ('../../etc/passwd', 'etc_passwd'),
        ('my file (1).txt', 'my_file_1.txt'),
        ('日本語.txt', '日本語.txt'),
        ('日本語', '日本語'),
        ('हिन्दी फ़ाइल.txt', 'हिन्दी_फ़ाइल.txt'),
        ('می\u200cخواهم.txt', 'می\u200cخواهم.txt'),
        ('A\u0308 \u202e🙂.txt', 'Ä_🙂.txt'),
        ('\u202e\u2066', 'file'),
        ('C:\\dir\\w.txt', 'w.txt'),
        ('a"; x="\r\nSet-Cookie: y', 'a_x0D0ASet-Cookie_y'),
    ],
)
def test_hostile_names_do_no_harm(url: str, name: str, kept: str) -> None:
    reference = stored(url, f'content of {name}'.encode(), name)
    record = get(url, f'/api/find/{reference.filehash}').json()
    assert record['filename'] in (
        f'{reference.filehash[:7]}_{kept}',
        # How the library quotes what would break the header differs by its release.
        f'{reference.filehash[:7]}_a_22_x220D0ASet-Cookie_y',
        f'{reference.filehash[:7]}_a22_x220D0ASet-Cookie_y',
    )
    headers = get(url, f'/api/download/{reference}').headers
    plain = clean_name(record['filename'])
    disposition = f'attachment; filename={plain}'
    if plain != record['filename']:
        disposition += f"; filename*=UTF-8''{quote(record['filename'])}"
    assert headers['Content-Disposition'] == disposition
    assert 'Set-Cookie' not in headers


@pytest.mark.parametrize('vector', VECTORS['vectors'], ids=lambda vector: vector['name'])
def test_vectors_come_back_as_the_original_gave_them(url: str, vector: dict) -> None:
    if 'plaintext_hex' in vector:
        plain = bytes.fromhex(vector['plaintext_hex'])
    else:
        zeros = vector['generator'] == 'byte i = 0'
        plain = bytes(vector['length']) if zeros else pattern(vector['length'])
    answer = upload(url, plain)
    expected = vector['counter0']
    assert answer.status_code == 201
    assert answer.json() == {'filehash': expected['filehash'], 'key': vector['key']}
    path = f'/api/download/{expected["filehash"]}'
    assert get(url, f'{path}?key={vector["key"]}').content == plain
    assert get(url, f'{path}?key={vector["key"].upper()}').content == plain
    assert hashlib.sha256(get(url, path).content).hexdigest() == expected['filehash']
    wrong = get(url, f'{path}?key={"00" * 32}')
    assert wrong.status_code == 200
    assert hashlib.sha256(wrong.content).hexdigest() == expected['wrong_key_00x32']['body_sha256']


def test_equal_content_is_stored_once_under_its_first_name(url: str) -> None:
    content = pattern(50_000)

    def used() -> int:
        return get(url, '/api/status').json()['storage']['used']

    before = used()
    with ThreadPoolExecutor(4) as pool:
        references = list(pool.map(lambda n: stored(url, content, f'{n}.txt'), range(4)))
    assert len(set(references)) == 1
    assert used() == before + len(content)


@pytest.mark.parametrize(
    'request_',
    [
        {'data': b''},
        {'json': {'file': 'x'}},
        {'data': {'file': 'x'}},
        {'files': {'other': ('x', b'x')}},
        {'files': {'file': ('', b'x')}},
        {'data': b'no form', 'headers': {'Content-Type': 'multipart/form-data'}},
        {'data': b'no form', 'headers': {'Content-Type': 'multipart/form-data; boundary=x'}},
        {
            'data': b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut',
            'headers': {'Content-Type': 'multipart/form-data; boundary=x'},
        },
        {'files': {'file': ('a', b'x')}, 'data': {'token': 't' * 65}},
        {'files': [(f'part{n}', (None, b'x')) for n in range(40)]},
        {
            'data': b'--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n',
            'headers': {'Content-Type': 'multipart/form-data; boundary=x'},
        },
    ],
)
def test_what_is_no_upload_is_a_bad_request(url: str, request_: dict) -> None:
    answer = post(url, '/api/upload', **request_)
    assert (answer.status_code, answer.json()) == (400, {'error': 'bad-request'})


def test_token_may_come_after_the_file(url: str) -> None:
    answer = post(
        url, '/api/upload', files=[('file', ('a', b'late token')), ('token', (None, 'oiFyR2Nc'))]
    )
    assert answer.status_code == 201


# -- download -----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def large(url: str) -> tuple[Reference, bytes]:
    content = pattern(2 * SHARD + 12345)
    return stored(url, content, 'large file.txt'), content


def test_download_with_the_key_is_plaintext_of_known_length(
    url: str, large: tuple[Reference, bytes]
) -> None:
    reference, content = large
    answer = get(url, f'/api/download/{reference}')
    assert answer.status_code == 200
    assert answer.content == content
    name = f'{reference.filehash[:7]}_large_file.txt'
    assert answer.headers['Content-Disposition'] == f'attachment; filename={name}'
    assert answer.headers['Content-Type'] == 'application/octet-stream'
    assert answer.headers['Content-Length'] == str(len(content))
    assert answer.headers['Cache-Control'] == 'no-store'


def test_download_without_the_key_is_the_ciphertext(
    url: str, large: tuple[Reference, bytes]
) -> None:
    reference, content = large
    answer = get(url, f'/api/download/{reference.filehash}')
    assert answer.content == content_stream(reference.key_bytes()).process(content)
    assert answer.headers['Content-Type'] == 'text/plain; charset=utf-8'
    assert answer.headers['Cache-Control'] == 'public, max-age=43200'
    assert answer.headers['ETag'] == f'"{reference.filehash}"'
    assert answer.headers['Last-Modified'].endswith('GMT')
    assert answer.headers['X-Content-Type-Options'] == 'nosniff'


@pytest.mark.parametrize(
    ('asked', 'start', 'end'),
    [
        ('bytes=0-0', 0, 1),
        ('bytes=17-40', 17, 41),
        (f'bytes={SHARD - 3}-{SHARD + 2}', SHARD - 3, SHARD + 3),
        (f'bytes={2 * SHARD + 5}-', 2 * SHARD + 5, None),
        ('bytes=-7', -7, None),
        (f'bytes=5-{2**60}', 5, None),
        (f'bytes=-{2**60}', 0, None),
    ],
)
def test_ranges_are_parts_of_either_form(
    url: str, large: tuple[Reference, bytes], asked: str, start: int, end: int | None
) -> None:
    reference, content = large
    sealed = content_stream(reference.key_bytes()).process(content)
    for path, whole in ((str(reference), content), (reference.filehash, sealed)):
        answer = get(url, f'/api/download/{path}', headers={'Range': asked})
        assert answer.status_code == 206
        assert answer.content == whole[start:end]
        first = start % len(whole)
        expected = f'bytes {first}-{first + len(answer.content) - 1}/{len(whole)}'
        assert answer.headers['Content-Range'] == expected


@pytest.mark.parametrize(
    ('headers', 'status'),
    [
        ({'Range': 'bytes=99999999-'}, 416),
        ({'Range': 'bytes=-0'}, 416),
        ({'Range': 'bytes=4-2'}, 200),
        ({'Range': 'bytes=0-1,3-4'}, 200),
        ({'Range': 'lines=1-2'}, 200),
        ({'Range': 'bytes=-'}, 200),
        ({'Range': 'bytes=0-1', 'If-Range': '"other"'}, 200),
        ({'Range': 'bytes=0-1', 'If-Range': f'"{HASH}"'}, 206),
    ],
)
def test_other_ranges_are_ignored_or_refused(url: str, headers: dict, status: int) -> None:
    stored(url, b'test data\n')
    answer = get(url, f'/api/download/{HASH}', headers=headers)
    assert answer.status_code == status
    if status == 416:
        assert answer.json() == {'error': 'range-not-satisfiable'}
        assert answer.headers['Content-Range'] == 'bytes */10'


def test_known_content_is_not_sent_again(url: str) -> None:
    reference = stored(url, b'sent once')
    path = f'/api/download/{reference.filehash}'
    first = get(url, path)
    for name, value in (
        ('If-None-Match', first.headers['ETag']),
        ('If-None-Match', f'"other", W/{first.headers["ETag"]}'),
        ('If-None-Match', '*'),
        ('If-Modified-Since', first.headers['Last-Modified']),
    ):
        answer = get(url, path, headers={name: value})
        assert (answer.status_code, answer.content) == (304, b'')
        assert answer.headers['ETag'] == first.headers['ETag']
    for headers in (
        {'If-None-Match': '"other"', 'If-Modified-Since': first.headers['Last-Modified']},
        {'If-Modified-Since': 'Thu, 01 Jan 1970 00:00:00 GMT'},
        {'If-Modified-Since': 'nonsense'},
    ):
        assert get(url, path, headers=headers).content == first.content
    # The address with the key names other bytes.
    answer = get(url, f'/api/download/{reference}', headers={'If-None-Match': '*'})
    assert (answer.status_code, answer.content) == (200, b'sent once')


def test_streamed_answers_have_the_headers_of_all_others(url: str) -> None:
    reference = stored(url, b'streamed')
    origin = {'Origin': 'https://page.example'}
    other = get(url, '/contacts', headers=origin).headers
    streamed = get(url, f'/api/download/{reference}', headers=origin).headers
    for name in ('Server', 'Referrer-Policy', 'X-Content-Type-Options', 'X-Frame-Options'):
        assert streamed[name] == other[name]
    assert streamed['Server'] == 'storj-bridge'
    assert streamed['Access-Control-Allow-Origin'] == 'https://page.example'
    assert streamed['Content-Security-Policy'] == "default-src 'none'; sandbox"
    for path in ('/contacts', f'/api/download/{reference}', '/', '/status', '/api/status'):
        assert 'Origin' in get(url, path).headers['Vary']
    assert 'Accept' in get(url, '/status').headers['Vary']
    assert 'X-Requested-With' in get(url, '/api/status').headers['Vary']


def test_head_tells_the_length_and_sends_nothing(url: str) -> None:
    stored(url, b'test data\n')
    for path in (HASH, f'{HASH}?key={KEY}'):
        answer = requests.head(f'{url}/api/download/{path}', timeout=60)
        assert answer.status_code == 200
        assert answer.headers['Content-Length'] == '10'
        assert answer.headers['Accept-Ranges'] == 'bytes'
        assert answer.content == b''


@pytest.mark.parametrize('key', ['', 'zz', KEY[:-1], KEY[:32], KEY + '00', f'{KEY[:-1]} '])
def test_bad_keys_are_refused(url: str, key: str) -> None:
    stored(url, b'test data\n')
    answer = get(url, f'/api/download/{HASH}', params={'key': key})
    assert (answer.status_code, answer.json()) == (400, {'error': 'bad-key'})


@pytest.mark.parametrize('filehash', [UNKNOWN, HASH.upper(), 'x', '..%2f..%2fetc%2fpasswd'])
def test_unknown_files_have_two_names_for_it(url: str, filehash: str) -> None:
    stored(url, b'test data\n')
    download, find = get(url, f'/api/download/{filehash}'), get(url, f'/api/find/{filehash}')
    assert (download.status_code, download.json()) == (404, {'error': 'file-not-found'})
    assert (find.status_code, find.json()) == (404, {'error': 'File not found'})


def test_find_describes_the_file_at_once(url: str) -> None:
    stored(url, b'test data\n')
    record = get(url, f'/api/find/{HASH}').json()
    assert int(record.pop('datetime')) > 1_700_000_000
    uploads = record.pop('uploads')
    assert record == {
        'filehash': HASH,
        'filename': f'{HASH[:7]}_test.dat',
        'filesize': 10,
        'shards': 1,
        'version': '0.2',
    }
    farmers = {row['node_id']: row for row in get(url, '/status').json()['farmers']}
    assert uploads
    for row in uploads:
        farmer = farmers[row['host_name']]
        assert row['url'] == f'storj://{farmer["address"]}:{farmer["port"]}/{farmer["node_id"]}'
        assert row['shards'] == [0]


def test_find_says_which_farmer_has_which_shard(url: str) -> None:
    reference = stored(url, pattern(2 * SHARD + 1))
    record = get(url, f'/api/find/{reference.filehash}').json()
    assert record['shards'] == 3
    assert {index for row in record['uploads'] for index in row['shards']} == {0, 1, 2}
    assert all(row['shards'] == sorted(set(row['shards'])) for row in record['uploads'])
    empty = stored(url, b'')
    record = get(url, f'/api/find/{empty.filehash}').json()
    assert (record['shards'], record['uploads']) == (0, [])


def test_status_has_the_form_of_the_tutorials_time(url: str) -> None:
    stored(url, b'test data\n')
    status = get(url, '/api/status').json()
    assert set(status) == {'bandwidth', 'datacoin', 'storage', 'sync'}
    for kind in ('current', 'limits', 'total'):
        assert set(status['bandwidth'][kind]) == {'incoming', 'outgoing'}
    assert status['bandwidth']['total']['incoming'] >= 10
    assert set(status['storage']) == {'capacity', 'max_file_size', 'used'}
    assert status['storage']['used'] >= 10
    assert status['sync']['cloud_queue'] == {'count': 0, 'size': 0}


def test_files_are_entries_of_the_nodes_bucket(network: Network) -> None:
    reference = stored(network.bridge_url, b'a file of the network\n')
    login = login_of(network)
    (bucket,) = get(network.bridge_url, '/buckets', auth=login).json()
    files = get(network.bridge_url, f'/buckets/{bucket["id"]}/files', auth=login).json()
    assert reference.filehash in {file['filename'] for file in files}
    assert (network.data / 'metadisk').stat().st_mode & 0o077 == 0
    assert (network.data / 'metadisk' / 'node.json').stat().st_mode & 0o077 == 0


def test_shards_come_from_farmers_by_way_of_the_node(network: Network) -> None:
    url = network.bridge_url
    reference = stored(url, pattern(70_000))
    login = login_of(network)
    (bucket,) = get(url, '/buckets', auth=login).json()
    files = get(url, f'/buckets/{bucket["id"]}/files', auth=login).json()
    (file,) = [file for file in files if file['filename'] == reference.filehash]
    path = f'/buckets/{bucket["id"]}/files/{file["id"]}'

    def shard(**changes: str) -> requests.Response:
        token = post(url, f'/buckets/{bucket["id"]}/tokens', json={'operation': 'PULL'}, auth=login)
        (pointer,) = get(url, path, headers={'x-token': token.json()['token']}).json()
        asked = {
            'hash': pointer['hash'],
            'farmer': pointer['farmer']['nodeID'],
            'size': str(pointer['size']),
            'token': pointer['token'],
            **changes,
        }
        query = {'farmer': asked['farmer'], 'size': asked['size']}
        headers = {'x-token': asked['token']}
        return get(url, f'/api/shards/{asked["hash"]}', params=query, headers=headers)

    answer = shard()
    assert answer.headers['Content-Type'] == 'application/octet-stream'
    assert answer.headers['Cache-Control'] == 'no-store'
    assert 'sandbox' in answer.headers['Content-Security-Policy']
    assert hashlib.sha256(answer.content).hexdigest() == reference.filehash
    for changes, status in (
        ({'token': 'ab' * 20}, 502),
        ({'farmer': 'ab' * 20}, 502),
        ({'hash': 'ab' * 20}, 502),
        ({'farmer': '127.0.0.1:1'}, 400),
        ({'farmer': '..%2fstatus'}, 400),
        ({'size': '0'}, 400),
        ({'size': '-1'}, 400),
        ({'size': str(2**33)}, 400),
        ({'token': 'a' * 65}, 400),
        ({'hash': 'AB' * 20}, 400),
    ):
        refused = shard(**changes)
        assert refused.status_code == status, changes
        assert 'error' in refused.json()


def test_other_routes_and_methods_are_refused_in_json(url: str) -> None:
    assert get(url, '/api/nodes').json() == {'error': 'Resource not found'}
    assert post(url, '/api/status').status_code == 405
