#!/usr/bin/env python3
"""Store a file and fetch it back shard by shard, as programs did that knew the network themselves.

::

    eval "$(storj network env)"
    python examples/push_by_hand.py FILE COPY

Nothing here is tried a second time, and a shard has one farmer: ``Client.file_upload`` does better.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

import storj
from storj import exception, http, model, web_socket
from storj.file_crypto import FileCrypto
from storj.sharder import ShardingTools

TIMEOUT = 60


def url_of(pointer: Any) -> str:
    farmer = pointer['farmer']
    return (
        f'http://{farmer["address"]}:{farmer["port"]}/shards/{pointer["hash"]}'
        f'?token={pointer["token"]}'
    )


def speaks_web_socket(pointer: Any) -> bool:
    return str(pointer['farmer']['protocol']).startswith('0.')


def push(contract: dict[str, Any], path: Path) -> None:
    with path.open('rb') as shard:
        if speaks_web_socket(contract):
            channel = web_socket.Client(contract, shard)
            channel.connect()
            channel.run_forever()
            return
        answer = requests.post(url_of(contract), data=shard, timeout=TIMEOUT)
    if answer.json().get('result') == 'The supplied token is not accepted':
        raise exception.SuppliedTokenNotAcceptedError()
    answer.raise_for_status()


def pull(pointer: Any, shard: Any) -> None:
    if speaks_web_socket(pointer):
        channel = web_socket.Client(pointer, shard)
        channel.connect()
        channel.run_forever()
    else:
        answer = requests.get(url_of(pointer), timeout=TIMEOUT)
        answer.raise_for_status()
        shard.write(answer.content)
    shard.seek(0)
    if model.ShardManager.hash(shard.read()) != pointer['hash']:
        raise exception.HashMismatchError()
    shard.seek(0)


def now() -> int:
    return int(1000 * time.time())


def report(client: http.Client, contract: dict[str, Any], start: int, end: int) -> None:
    note = model.ExchangeReport()
    note.dataHash = contract['hash']
    note.farmerId = contract['farmer']['nodeID']
    note.exchangeStart, note.exchangeEnd = start, end
    note.exchangeResultCode = note.SUCCESS
    note.exchangeResultMessage = note.STORJ_REPORT_SHARD_UPLOADED
    client.send_exchange_report(note)


def upload(client: http.Client, bucket_id: str, path: Path) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        encrypted = Path(temporary, f'{path.name}.encrypted')
        FileCrypto().encrypt_file('AES', path, encrypted, client.password)
        token = client.token_create(bucket_id, 'PUSH')
        frame = client.frame_create()
        # Farmers since core 6.4 answer audits of this generation.
        manager = model.ShardManager(encrypted, num_chunks=3, tmp_path=temporary, generation='C')
        for shard in manager.shards:
            contract = client.frame_add_shard(shard, frame.id)
            start = now()
            push(contract, Path(temporary, f'{encrypted.name}-{shard.index + 1}'))
            report(client, contract, start, now())
    answer = client._request(
        method='POST',
        path=f'/buckets/{bucket_id}/files',
        headers={'x-token': token.id, 'x-filesize': str(manager.filesize)},
        json={'frame': frame.id, 'mimetype': 'text/plain', 'filename': path.name},
    )
    return str(answer['id'])


def download(client: http.Client, bucket_id: str, file_id: str, path: Path) -> None:
    frame = client.file_metadata(bucket_id, file_id).frame
    count = len(client.frame_get(frame.id).shards)
    pointers = client.file_pointers(bucket_id, file_id, limit=str(count), skip='0')
    with tempfile.TemporaryFile() as joined, path.open('wb') as target:
        for pointer in pointers:
            with tempfile.TemporaryFile() as shard:
                pull(pointer, shard)
                ShardingTools().join_shards([shard], joined)
        joined.seek(0)
        FileCrypto().decrypt_file_aes(joined, target, client.password)


def main(path: str, copy: str) -> int:
    client = storj.get_client()
    bucket = client.bucket_create('by hand')
    try:
        file_id = upload(client, bucket.id, Path(path))
        print([(each['filename'], each['size']) for each in client.bucket_files(bucket.id)])
        download(client, bucket.id, file_id, Path(copy))
    except exception.StorjError as error:
        print(f'push_by_hand.py: {error}', file=sys.stderr)
        return 1
    finally:
        client.bucket_delete(bucket.id)
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:3]))
