// Reads a file of a bucket: shard after shard from the farmers, each proved by its hash, then
// decrypted.

import {ApiError, pieces} from './api.js';
import * as bridge from './bridge.js';
import {ReadError} from './convergent.js';
import {decrypt, fromHex, hex} from './ctr.js';
import {fileHmac} from './keys.js';
import {ripemd160} from './ripemd160.js';
import {Sha256} from './sha256.js';

// Farmers that are tried for a shard, and shards that are fetched at a time.
const FARMERS = 6;
const PARALLEL = 3;
// Milliseconds that the tokens of farmers are good for, at least.
const FRESH = 15 * 60 * 1000;
const EXCHANGE = {
  good: {exchangeResultCode: 1000, exchangeResultMessage: 'SHARD_DOWNLOADED'},
  bad: {exchangeResultCode: 1100, exchangeResultMessage: 'DOWNLOAD_ERROR'},
};

/** Find the key of the content that the HMAC of the file proves. */
async function provedKey(info, hashes, keyOf) {
  const {type, value} = info.hmac ?? {};
  if (type === 'sha256') {
    throw new ReadError('This file was stored without encryption. Use storj cp --plain.');
  }
  if (type !== 'sha512') {
    throw new ReadError('Nothing proves the key of this file. Use storj cp --allow-unauthenticated.');
  }
  const content = await keyOf(info);
  if (await fileHmac(content.key, hashes) !== value.toLowerCase()) {
    throw new ReadError('The encryption key is not the key of this file.');
  }
  return content;
}

/** Gather a shard as a blob, which browsers may keep on the disk, until its hash is right. */
async function gather(pointer, signal, onPiece) {
  const digest = new Sha256();
  const blobs = [];
  for await (const piece of pieces(await bridge.shard(pointer, signal))) {
    digest.update(piece);
    blobs.push(new Blob([piece]));
    onPiece(piece.length);
  }
  if (hex(ripemd160(fromHex(digest.hex()))) !== pointer.hash) {
    throw new ApiError('The farmer sent other bytes.');
  }
  return new Blob(blobs);
}

function report(source, pointer, begun, result) {
  source.report({
    dataHash: pointer.hash, farmerId: pointer.farmer.nodeID,
    exchangeStart: begun, exchangeEnd: Date.now(), ...result,
  }).catch(() => {
    // The file is there, whether the bridge takes the report or not.
  });
}

/** Fetch one shard, from another farmer when one fails. */
async function fetchShard(source, index, first, listed, signal, onPiece) {
  const exclude = [];
  let pointer = first;
  for (let attempt = 0; attempt < FARMERS; attempt += 1) {
    if (attempt || Date.now() - listed > FRESH) [pointer] = await source.pointers(index, 1, exclude);
    if (pointer?.hash !== first.hash || !pointer.token || !pointer.farmer) break;
    const begun = Date.now();
    let received = 0;
    try {
      const shard = await gather(pointer, signal, (size) => { received += size; onPiece(size); });
      report(source, pointer, begun, EXCHANGE.good);
      return shard;
    } catch (error) {
      if (signal.aborted) throw error;
      onPiece(-received);
      report(source, pointer, begun, EXCHANGE.bad);
      exclude.push(pointer.farmer.nodeID);
    }
  }
  throw new ReadError(`No farmer delivers shard ${index}. Use storj cp, which restores it from parity.`);
}

/**
 * Read a file into a sink.
 *
 * `source` is a file of `bridge.js`; `keyOf(info)` gives key and first counter block of its content.
 */
export async function read(source, keyOf, sink, signal, onProgress) {
  const info = await source.info();
  const listed = Date.now();
  const pointers = info.size ? await bridge.allPointers(source) : [];
  const data = [...pointers.entries()].filter(([, pointer]) => !pointer.parity);
  const size = data.reduce((sum, [, pointer]) => sum + pointer.size, 0);
  if (size !== info.size) throw new ReadError('Shards of this file are missing at the bridge.');
  const hashes = pointers.map((pointer) => pointer.hash);
  let received = 0;
  const count = (change) => {
    received += change;
    onProgress(received);
  };
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  async function* ciphertext() {
    const coming = [];
    const rest = data.values();
    const begin = () => {
      const {done, value: [index, pointer] = []} = rest.next();
      if (done) return;
      const shard = fetchShard(source, index, pointer, listed, either, count);
      // Whoever waits for it is told; nobody may wait any more.
      shard.catch(() => {});
      coming.push(shard);
    };
    for (let each = 0; each < PARALLEL; each += 1) begin();
    while (coming.length) {
      const shard = await coming.shift();
      begin();
      yield* pieces(shard.stream());
    }
  }
  count(0);
  await sink.begin();
  if (!size) return;
  const {key, counter} = await provedKey(info, hashes, keyOf);
  try {
    for await (const {plain} of decrypt(key, counter, ciphertext())) await sink.write(plain);
  } catch (error) {
    if (signal.aborted) throw new ApiError('Cancelled.');
    throw error;
  } finally {
    stop.abort();
  }
}
