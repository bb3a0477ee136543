"""Every test vector that concerns the pure rooms: what other programs computed, we compute.

The vectors of farmers' observed behaviour, farmers' signatures, proof of work and contracts are
checked with the network.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import ecdsa
import pytest

from storj import api, digest, erasure, sharding
from storj.crypto import base58, cipher, credentials, keyring, keys, mnemonic, names
from storj.exception import MnemonicError, NotEnoughShardsError
from tests.unit.core_keys import seal_text

HERE = Path(__file__).parent / 'vectors'
PROTOCOL: dict[str, Any] = json.loads((HERE / 'protocol.json').read_text('utf-8'))
LIBSTORJ: dict[str, Any] = json.loads((HERE / 'libstorj.json').read_text('utf-8'))['groups']
DERIVATION = PROTOCOL['key_derivation']


def protocol(*path: str) -> pytest.MarkDecorator:
    vectors = PROTOCOL
    for name in path:
        vectors = vectors[name]
    return pytest.mark.parametrize('vector', vectors)


def libstorj(group: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize('vector', LIBSTORJ[group]['vectors'])


#: Groups that are checked with the network, tell what is no number, or (error_text) are sentences
#: of libstorj's command.
ELSEWHERE = {
    'about',
    'checked_against',
    'contact_pow_v6',
    'contract_signing_string',
    'error_text',
    'example_ids_in_protocol_md',
    'farmer_request_auth_v6',
    'http_c6_8_observed',
    'websocket_c5_1_2_observed',
}


def test_no_group_of_vectors_is_forgotten():
    source = Path(__file__).read_text('utf-8')
    forgotten = {
        group for group in {*PROTOCOL, *LIBSTORJ} - ELSEWHERE if f"'{group}'" not in source
    }
    assert not forgotten


# --- protocol.json ------------------------------------------------------------------------------


def shard_of(vector: dict[str, Any]) -> bytes:
    if 'data_hex' in vector:
        return bytes.fromhex(vector['data_hex'])
    if vector['name'].startswith('8 MiB'):
        return bytes(8 * 1024 * 1024)
    return bytes(i % 251 for i in range(vector['length']))


@protocol('shard_hashes')
def test_shard_hash_equals_protocol(vector):
    data = shard_of(vector)
    assert len(data) == vector['length']
    assert hashlib.sha256(data).hexdigest() == vector['sha256']
    assert digest.shard_hash(data) == vector['hash']
    assert digest.shard_hash(data, 'A') == vector['hash_core_before_3_0_0']


@protocol('deterministic_ids')
def test_deterministic_id_equals_protocol(vector):
    if 'user' in vector:
        assert sharding.bucket_id(vector['user'], vector['bucket_name']) == vector['bucket_id']
    else:
        found = sharding.file_id(vector['bucket_id'], vector.get('file_name'))
        assert found == vector['file_id']


@pytest.mark.parametrize('generation', ['A', 'B', 'C'])
@pytest.mark.parametrize('case', ['one_challenge', 'three_challenges', 'four_challenges'])
def test_audit_equals_protocol(generation, case):
    shard = bytes.fromhex(PROTOCOL['audits'][generation]['shard_hex'])
    vector = PROTOCOL['audits'][generation][case]
    made = digest.ShardDigest(vector['challenges'], generation)
    for byte in shard:
        made.update(bytes([byte]))
    assert made.responses() == vector['responses']
    assert made.leaves() == vector['tree']
    rows = digest.merkle_rows(made.leaves(), generation)
    assert rows == vector['rows_root_first']
    assert rows[0] == [vector['root']]
    assert len(rows) == vector['depth_levels']
    for response, proof in zip(vector['responses'], vector['proofs'], strict=True):
        assert digest.make_proof(vector['tree'], response, generation) == proof
        assert digest.verify_proof(proof, vector['root'], vector['depth_levels'], generation)


def test_audit_leaf_of_unit_test_equals_protocol():
    vector = PROTOCOL['audits']['C']['unit_test_leaf']
    made = digest.ShardDigest([vector['challenge']])
    made.update(bytes.fromhex(vector['shard_hex']))
    assert made.leaves() == [vector['leaf']]


@pytest.mark.parametrize('generation', ['A', 'B', 'C'])
def test_padding_leaf_equals_protocol(generation):
    assert digest.padding_leaf(generation) == PROTOCOL['audits']['padding_leaf'][generation]


def test_basic_authorization_equals_protocol():
    vector = PROTOCOL['auth']['basic']
    hashed = api.hash_password(vector['password'])
    assert hashed == vector['password_sha256_hex']
    found = api.basic_authorization(vector['email'], hashed)
    assert found == vector['authorization_header']
    assert api.hash_password(hashed) == vector['server_side_hashpass']


def signing_key() -> ecdsa.SigningKey:
    raw = bytes.fromhex(PROTOCOL['auth']['ecdsa']['private_key_hex'])
    return ecdsa.SigningKey.from_string(raw, curve=ecdsa.SECP256k1)


@protocol('auth', 'ecdsa', 'requests')
def test_signature_equals_protocol(vector):
    text = api.signing_text(vector['method'], vector['path'], vector['params'])
    assert text == vector['payload'].encode()
    assert hashlib.sha256(text).hexdigest() == vector['payload_sha256']
    assert api.sign(signing_key(), text) == vector['signature_der_hex_rfc6979']


def test_signature_of_message_equals_protocol():
    vector = PROTOCOL['auth']['ecdsa']['message_test']
    assert api.sign(signing_key(), vector['message'].encode()) == vector['signature']
    vector = PROTOCOL['auth']['ecdsa']['hash_test']
    text = api.signing_text('get', '/', 'hello=world')
    assert text == vector['payload'].encode()
    assert hashlib.sha256(text).hexdigest() == vector['sha256']


def test_public_key_equals_protocol():
    public = signing_key().verifying_key
    vector = PROTOCOL['auth']['ecdsa']
    assert api.ecdsa_to_hex(public.to_string()) == vector['public_key_uncompressed']
    assert api.ecdsa_to_hex(public.to_string('uncompressed')) == vector['public_key_uncompressed']
    assert api.ecdsa_to_hex(public.to_string('compressed')) == vector['public_key_compressed']


def test_node_id_equals_protocol():
    vector = PROTOCOL['node_identity']
    assert api.node_id(bytes.fromhex(vector['public_key_compressed'])) == vector['nodeID']
    address = base58.encode_check(b'\0' + bytes.fromhex(vector['nodeID']))
    assert address == vector['bitcoin_address']
    assert base58.decode_check(address).hex() == '00' + vector['nodeID']


def check_stream(content_key: keys.ContentKey, vector: dict[str, Any]) -> None:
    clear, stored = vector['plaintext_ascii'].encode(), bytes.fromhex(vector['ciphertext_hex'])
    assert cipher.CtrStream(content_key).process(clear) == stored
    assert cipher.CtrStream(content_key).process(stored) == clear
    assert cipher.CtrStream(content_key, offset=3).process(stored[3:]) == clear[3:]


def test_random_key_equals_protocol():
    vector = DERIVATION['data_cipher_key_iv']
    made = keys.file_key_random(
        bytes.fromhex(vector['pass_hex']), bytes.fromhex(vector['salt_hex'])
    )
    assert made.key.hex() == vector['pbkdf2_sha256_is_key']
    assert made.counter.hex() == vector['iv_rmd160_of_salt_first_16']
    check_stream(made, vector)


def test_text_key_equals_protocol():
    vector = DERIVATION['deterministic_text_core_5_1_0_to_6_0_3']
    bucket = keys.bucket_key_text(vector['mnemonic'], vector['bucket_id'])
    assert bucket == vector['bucket_key']
    made = keys.file_key_text(bucket, vector['file_id'])
    assert made == keys.file_key_pair(vector['file_key'], vector['file_id'])
    assert made.key.hex() == vector['aes_key_sha256_of_file_key_text']
    assert made.counter.hex() == vector['iv_rmd160_of_file_id_text_first_16']
    unit = vector['unit_test']
    assert keys.bucket_key_text(unit['key'], unit['id']) == unit['result']
    unit = vector['key_iv_unit_test']
    pair = keys.file_key_pair(unit['pass'], unit['salt'])
    assert (pair.key.hex(), pair.counter.hex()) == (unit['key'], unit['iv'])


def test_v0_key_equals_protocol():
    vector = DERIVATION['deterministic_binary_v0_core_6_0_4_storjjs_libstorj_without_index']
    words = vector['mnemonic']
    assert mnemonic.seed(words).hex() == vector['bip39_seed']
    bucket = keys.bucket_key(words, vector['bucket_id'])
    assert bucket.hex() == vector['bucket_key']
    made = keys.file_key_v0(bucket, vector['file_id'])
    assert made == keys.file_key_pair(vector['file_key'], vector['file_id'])
    assert made.key.hex() == vector['aes_key_sha256_of_file_key_hex_text']
    assert made.counter.hex() == vector['ctr_rmd160_of_file_id_text_first_16']
    check_stream(made, vector)


def test_v1_key_equals_protocol():
    vector = DERIVATION['libstorj_v1_with_index']
    bucket = keys.bucket_key(vector['mnemonic'], vector['bucket_id'])
    assert bucket.hex() == vector['bucket_key']
    made = keys.file_key(bucket, vector['index'])
    assert made.key.hex() == vector['file_key_used_directly_as_aes_key']
    assert made.counter.hex() == vector['ctr_first_16_bytes_of_index']
    assert made.hmac(vector['shard_hashes_for_hmac']) == vector['hmac_sha512_hex']
    check_stream(made, vector)


def test_names_equal_protocol():
    vector = DERIVATION['libstorj_name_encryption']
    words = vector['mnemonic']
    assert vector['meta_magic_hex'] == names.META_MAGIC.hex()
    assert vector['bucket_name_magic'] == names.BUCKET_NAME_MAGIC
    pair = vector['bucket_name']
    assert names.encrypt_bucket_name(words, pair['clear']) == pair['encrypted']
    assert names.decrypt_bucket_name(words, pair['encrypted']) == pair['clear']
    pair = vector['file_name']
    bucket = keys.bucket_key(words, pair['bucket_id'])
    assert names.encrypt_file_name(bucket, pair['bucket_id'], pair['clear']) == pair['encrypted']
    assert names.decrypt_file_name(bucket, pair['encrypted']) == pair['clear']


def test_node_key_equals_protocol():
    vector = DERIVATION['keypair_cipher_core_before_1_0_0']
    made = keys.file_key_node(bytes.fromhex(vector['private_key_hex']), vector['nodeID'])
    assert (made.key.hex(), made.counter.hex()) == (vector['key'], vector['iv'])
    assert keyring.KeyEntry(vector['private_key_hex'], kind='KeyPair').content_key() == made


def test_keyring_file_equals_protocol():
    vector = DERIVATION['keyring_file_password_cipher']
    clear, sealed = vector['plain_json'], vector['file_content_hex']
    assert seal_text(vector['passphrase'], clear) == sealed
    assert keyring.open_text(vector['passphrase'], sealed) == clear
    entry = keyring.KeyEntry.from_json(json.loads(clear))
    assert json.dumps(entry.to_json(), separators=(',', ':')) == clear


@protocol('shard_size')
def test_shard_size_equals_protocol(vector):
    size = vector['file_size']
    assert sharding.shard_size_for(size, 'core-back5') == vector['core_3_0_to_6_0_8_back5_8MiB']
    assert sharding.shard_size_for(size, 'core-back4') == vector['core_6_0_9_up_back4_8MiB']
    assert sharding.shard_size_for(size) == vector['libstorj_late_back4_2MiB_max4GiB']


# --- libstorj.json ------------------------------------------------------------------------------


@libstorj('mnemonic_from_entropy')
def test_mnemonic_from_entropy_equals_libstorj(vector):
    assert mnemonic.from_entropy(bytes.fromhex(vector['entropy'])) == vector['mnemonic']


@libstorj('mnemonic_check')
def test_mnemonic_check_equals_libstorj(vector):
    if vector['valid']:
        mnemonic.check(vector['mnemonic'])
    else:
        with pytest.raises(MnemonicError):
            mnemonic.check(vector['mnemonic'])


@libstorj('seed')
def test_seed_equals_libstorj(vector):
    assert mnemonic.seed(vector['mnemonic'], vector['passphrase']).hex() == vector['seed']


@libstorj('bucket_key')
def test_bucket_key_equals_libstorj(vector):
    if vector['ok']:
        found = keys.bucket_key(vector['mnemonic'], vector['bucket_id'])
        assert found.hex() == vector['bucket_key']
    else:
        with pytest.raises(ValueError, match='bucket id'):
            keys.bucket_key(vector['mnemonic'], vector['bucket_id'])


@libstorj('file_key')
def test_file_key_equals_libstorj(vector):
    assert vector['ok']
    bucket = keys.bucket_key(vector['mnemonic'], vector['bucket_id'])
    made = keys.file_key(bucket, vector['index'])
    assert (made.key.hex(), made.counter.hex()) == (vector['file_key'], vector['ctr'])


@libstorj('file_key_without_index')
def test_file_key_without_index_equals_libstorj(vector):
    bucket = keys.bucket_key(vector['mnemonic'], vector['bucket_id'])
    made = keys.file_key_v0(bucket, vector['file_id'])
    assert (made.key.hex(), made.counter.hex()) == (vector['aes_key'], vector['ctr'])


@libstorj('encrypt_meta')
def test_encrypt_meta_equals_libstorj(vector):
    key, iv, text = (bytes.fromhex(vector[name]) for name in ('key', 'iv', 'text'))
    assert names.encrypt_meta(key, iv, text) == vector['output']


@libstorj('decrypt_meta')
def test_decrypt_meta_equals_libstorj(vector):
    found = names.decrypt_meta(bytes.fromhex(vector['key']), vector['input'])
    assert (found if found is None else found.hex()) == vector['text']


@libstorj('bucket_name')
def test_bucket_name_equals_libstorj(vector):
    words, name = vector['mnemonic'], bytes.fromhex(vector['name']).decode()
    bucket = keys.bucket_key(words, names.BUCKET_NAME_MAGIC)
    assert names.name_key(bucket).hex() == vector['name_key']
    assert cipher.synthetic_iv(bucket, name.encode()).hex() == vector['iv']
    assert names.encrypt_bucket_name(words, name) == vector['encrypted']
    assert names.decrypt_bucket_name(words, vector['encrypted']) == name


@libstorj('file_name')
def test_file_name_equals_libstorj(vector):
    bucket_id, name = vector['bucket_id'], bytes.fromhex(vector['name']).decode()
    bucket = keys.bucket_key(vector['mnemonic'], bucket_id)
    assert names.name_key(bucket).hex() == vector['name_key']
    assert names.encrypt_file_name(bucket, bucket_id, name) == vector['encrypted']
    assert names.decrypt_file_name(bucket, vector['encrypted']) == name


@libstorj('ctr_at_offset')
def test_counter_at_offset_equals_libstorj(vector):
    counter = bytes.fromhex(vector['ctr'])
    if vector['ok']:
        assert cipher.counter_at(counter, vector['offset']).hex() == vector['result']
    else:
        with pytest.raises(ValueError, match='multiple of 16'):
            cipher.counter_at(counter, vector['offset'])


@libstorj('shard_size')
def test_plan_equals_libstorj(vector):
    size = vector['file_size']
    assert sharding.shard_size_for(size) == vector['shard_size']
    data, parity = vector['data_shards'], vector['parity_shards']
    assert sharding.parity_count(size, data) == parity
    if data + parity > sharding.MAX_SHARDS:
        # libstorj cannot give such a file parity; here its shards are larger.
        made = sharding.plan(size)
        assert made.shard_size > vector['shard_size']
        assert 0 < made.parity_shards <= sharding.MAX_SHARDS - made.data_shards
    else:
        assert sharding.plan(size) == sharding.Plan(size, vector['shard_size'], data, parity)


@libstorj('shard_hash')
def test_shard_hash_equals_libstorj(vector):
    assert digest.shard_hash(bytes.fromhex(vector['data'])) == vector['hash']


@libstorj('audit_leaf')
def test_audit_leaf_equals_libstorj(vector):
    made = digest.ShardDigest([vector['challenge']])
    made.update(bytes.fromhex(vector['data']))
    assert made.leaves() == [vector['leaf']]


backends = pytest.mark.parametrize('backend', erasure.available_backends())


def cut(data: bytes, size: int, count: int) -> list[bytes]:
    return [data[i * size :][:size].ljust(size, b'\0') for i in range(count)]


@backends
@libstorj('rs_matrix')
def test_matrix_equals_libstorj(vector, backend):
    count = vector['data_shards']
    coder = erasure.ReedSolomon(count, vector['parity_shards'], backend=backend)
    # The parity of the columns of the identity is the matrix.
    identity = [bytes(int(row == column) for column in range(count)) for row in range(count)]
    parity = [bytearray(count) for _ in vector['parity_rows']]
    coder.encode(identity, parity)
    assert [row.hex() for row in parity] == vector['parity_rows']


@backends
@libstorj('rs_encode')
def test_parity_equals_libstorj(vector, backend):
    size, count = vector['shard_size'], vector['data_shards']
    coder = erasure.ReedSolomon(count, vector['parity_shards'], backend=backend)
    parity = [bytearray(size) for _ in vector['parity']]
    coder.encode(cut(bytes.fromhex(vector['data']), size, count), parity)
    assert [shard.hex() for shard in parity] == vector['parity']


@backends
@libstorj('rs_reconstruct')
def test_repair_equals_libstorj(vector, backend):
    size, count = vector['shard_size'], vector['data_shards']
    coder = erasure.ReedSolomon(count, vector['parity_shards'], backend=backend)
    have = {
        index: bytes.fromhex(text).ljust(size, b'\0')
        for index, text in enumerate(vector['shards'])
        if text is not None
    }
    want = {index: bytearray(size) for index in vector['missing'] if index < count}
    if vector['recovered'] is None:
        with pytest.raises(NotEnoughShardsError) as caught:
            coder.repair(have, want)
        assert (caught.value.have, caught.value.need) == (len(have), count)
    else:
        coder.repair(have, want)
        whole = b''.join(bytes((have | want)[index]) for index in range(count))
        assert whole[: vector['total_bytes']].hex() == vector['recovered']


@libstorj('basic_auth')
def test_basic_authorization_equals_libstorj(vector):
    hashed = api.hash_password(vector['password'])
    assert api.basic_authorization(vector['user'], hashed) == vector['authorization']


def plaintext(label: str, size: int) -> bytes:
    pieces = (hashlib.sha256(f'{label}:{i}'.encode()).digest() for i in range(-(-size // 32)))
    return b''.join(pieces)[:size]


@libstorj('whole_file')
def test_whole_file_equals_libstorj(vector):
    clear = plaintext(vector['plaintext_label'], vector['size'])
    assert hashlib.sha256(clear).hexdigest() == vector['plaintext_sha256']
    bucket = keys.bucket_key(vector['mnemonic'], vector['bucket_id'])
    content_key = keys.file_key(bucket, vector['index'])
    assert content_key.key.hex() == vector['file_key']
    stored_name = names.encrypt_file_name(bucket, vector['bucket_id'], vector['name'])
    assert stored_name == vector['encrypted_name']
    plan = sharding.plan(len(clear), parity=vector['reed_solomon_requested'])
    assert plan.shard_size == vector['shard_size']
    shards = []
    for span in plan:
        if not span.parity:
            stream = cipher.CtrStream(content_key, span.offset)
            shards.append(stream.process(clear[span.offset : span.offset + span.size]))
    assert hashlib.sha256(b''.join(shards)).hexdigest() == vector['ciphertext_sha256']
    assert plan.shards == len(vector['shards'])
    for span, expected in zip(plan, vector['shards'], strict=True):
        assert (span.index, span.size) == (expected['index'], expected['size'])
        assert span.parity == expected['parity']
    if plan.parity_shards:
        coder = erasure.ReedSolomon(plan.data_shards, plan.parity_shards)
        parity = [bytearray(plan.shard_size) for _ in range(plan.parity_shards)]
        coder.encode(cut(b''.join(shards), plan.shard_size, plan.data_shards), parity)
        shards.extend(map(bytes, parity))
    for data, expected in zip(shards, vector['shards'], strict=True):
        made = digest.ShardDigest(expected['challenges'])
        made.update(data)
        assert made.hexdigest() == expected['hash']
        assert made.leaves() == expected['tree']
    hashes = [expected['hash'] for expected in vector['shards']]
    assert content_key.hmac(hashes) == vector['hmac']['value']


@libstorj('file_hmac')
def test_file_hmac_equals_libstorj(vector):
    content_key = keys.ContentKey(bytes.fromhex(vector['file_key']), bytes(16))
    assert content_key.hmac(vector['shard_hashes']) == vector['hmac']


@libstorj('file_ids_path')
def test_path_of_name_equals_libstorj(vector):
    assert vector['path'].endswith('/file-ids/' + api.segment(vector['encrypted_name']))


@libstorj('passphrase_key')
def test_passphrase_key_equals_libstorj(vector):
    found = credentials.passphrase_key(vector['passphrase'], vector['salt'])
    assert found.hex() == vector['key']


@libstorj('encrypt_data')
def test_sealed_secret_equals_libstorj(vector):
    key = credentials.passphrase_key(vector['passphrase'], vector['salt'])
    assert credentials.seal_text(key, vector['text']) == vector['output']
    assert credentials.open_text(key, vector['output']) == vector['text']


@libstorj('auth_json')
def test_credentials_file_equals_libstorj(vector):
    held = credentials.Credentials(vector['user'], vector['password'], vector['mnemonic'])
    assert credentials.decode(vector['json'], vector['passphrase']) == held
    assert json.loads(credentials.encode(held, vector['passphrase'])) == json.loads(vector['json'])
