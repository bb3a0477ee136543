// MetaDisk's encryption, undone in the browser:
//   key      = HMAC-SHA256("Something old, something new.", hex(SHA-256(plaintext)))
//   cipher   = AES-256-CTR, first counter block 0 or 1
//   filehash = hex(SHA-256(ciphertext))

import {Sha256} from './sha256.js';

const PASSPHRASE = new TextEncoder().encode('Something old, something new.');
const REFERENCE = /([0-9a-f]{64})\?key=([0-9a-f]{64})(?![0-9a-f])/i;
const COUNTERS = [0, 1];
const BLOCK = 16;
const PIECE = 1024 * 1024;

export class ReadError extends Error {}

const hex = (buffer) =>
  Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');

const fromHex = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));

export const isHash = (text) => /^[0-9a-f]{64}$/.test(text);

/** Find `<filehash>?key=<key>` in a reference, a download URL or a share link; null if none. */
export function parseReference(text) {
  const match = REFERENCE.exec(text.trim().replace(/%3f/gi, '?').replace(/%3d/gi, '='));
  return match && {hash: match[1].toLowerCase(), key: match[2].toLowerCase()};
}

/** Whether this browser may decrypt: only pages of https and of this machine may. */
export const canDecrypt = () => globalThis.crypto?.subtle !== undefined;

async function contentKey(digest) {
  const secret = await crypto.subtle.importKey(
    'raw', PASSPHRASE, {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  return hex(await crypto.subtle.sign('HMAC', secret, new TextEncoder().encode(digest)));
}

/** The counter block of a file's byte `offset`, a multiple of 16. */
function counterAt(first, offset) {
  const counter = new Uint8Array(BLOCK);
  new DataView(counter.buffer).setBigUint64(8, BigInt(first) + BigInt(offset / BLOCK));
  return counter;
}

/** Cut a stream anew, into pieces of PIECE bytes and the rest; a piece is valid until the next. */
async function* recut(stream) {
  const piece = new Uint8Array(PIECE);
  let filled = 0;
  for await (let data of stream) {
    while (data.length) {
      const taken = data.subarray(0, PIECE - filled);
      piece.set(taken, filled);
      filled += taken.length;
      data = data.subarray(taken.length);
      if (filled === PIECE) {
        yield piece;
        filled = 0;
      }
    }
  }
  if (filled) yield piece.subarray(0, filled);
}

/**
 * Decrypt a file piece by piece into a sink, whatever its size.
 *
 * `fetch()` gives its ciphertext as an async iterable of Uint8Arrays. The sink's `begin()` throws
 * away what was written before; its content is complete
 * and right once this returns, and must be discarded when this throws. Only files of late 2014 need to be fetched twice.
 */
export async function open(fetch, {hash, key, size}, sink) {
  const secret = await crypto.subtle.importKey('raw', fromHex(key), 'AES-CTR', false, ['decrypt']);
  for (const first of COUNTERS) {
    const ciphertext = new Sha256();
    const plaintext = new Sha256();
    await sink.begin();
    for await (const piece of recut(fetch())) {
      const counter = counterAt(first, ciphertext.size);
      ciphertext.update(piece);
      if (ciphertext.size > size) break;
      const plain = new Uint8Array(
        await crypto.subtle.decrypt({name: 'AES-CTR', counter, length: 128}, secret, piece));
      plaintext.update(plain);
      await sink.write(plain);
    }
    if (ciphertext.size !== size || ciphertext.hex() !== hash) {
      throw new ReadError('The received bytes are not those of this file.');
    }
    if (await contentKey(plaintext.hex()) === key) return;
  }
  throw new ReadError('The key is not the key of this file.');
}
