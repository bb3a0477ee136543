// MetaDisk's encryption, undone in the browser:
//   key      = HMAC-SHA256("Something old, something new.", hex(SHA-256(plaintext)))
//   cipher   = AES-256-CTR, first counter block 0 or 1
//   filehash = hex(SHA-256(ciphertext))

import {decrypt, fromHex, hex} from './ctr.js';
import {Sha256} from './sha256.js';

const PASSPHRASE = new TextEncoder().encode('Something old, something new.');
const BLOCK = 16;
const REFERENCE = /([0-9a-f]{64})\?key=([0-9a-f]{64})(?![0-9a-f])/i;
// Of the first byte, in files from 2014: until September, and after it.
const COUNTERS = [0, 1];

export class ReadError extends Error {}

export const isHash = (text) => /^[0-9a-f]{64}$/.test(text);

/** Find `<filehash>?key=<key>` in a reference, a download URL or a share link; null if none. */
export function parseReference(text) {
  const match = REFERENCE.exec(text.trim().replace(/%3f/gi, '?').replace(/%3d/gi, '='));
  return match && {hash: match[1].toLowerCase(), key: match[2].toLowerCase()};
}

async function contentKey(digest) {
  const secret = await crypto.subtle.importKey(
    'raw', PASSPHRASE, {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  return hex(await crypto.subtle.sign('HMAC', secret, new TextEncoder().encode(digest)));
}

/**
 * Decrypt a file piece by piece into a sink, whatever its size.
 *
 * `fetch()` gives its ciphertext as an async iterable of Uint8Arrays. The sink's `begin()` throws
 * away what was written before; its content is complete
 * and right once this returns, and must be discarded when this throws. Only files of late 2014 need to be fetched twice.
 */
export async function open(fetch, {hash, key, size}, sink) {
  for (const counter of COUNTERS) {
    const ciphertext = new Sha256();
    const plaintext = new Sha256();
    await sink.begin();
    const first = new Uint8Array(BLOCK);
    first[BLOCK - 1] = counter;
    for await (const {cipher, plain} of decrypt(fromHex(key), first, fetch())) {
      ciphertext.update(cipher);
      if (ciphertext.size > size) break;
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
