// MetaDisk's encryption, undone in the browser:
//   key      = HMAC-SHA256("Something old, something new.", hex(SHA-256(plaintext)))
//   cipher   = AES-256-CTR, first counter block 0 or 1
//   filehash = hex(SHA-256(ciphertext))

const PASSPHRASE = new TextEncoder().encode('Something old, something new.');
const REFERENCE = /([0-9a-f]{64})\?key=([0-9a-f]{64})(?![0-9a-f])/i;
const COUNTERS = [0, 1];

export class ReadError extends Error {}

const hex = (buffer) =>
  Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');

const fromHex = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));

export const sha256 = async (data) => hex(await crypto.subtle.digest('SHA-256', data));

/** Find `<filehash>?key=<key>` in a reference, a download URL or a share link; null if none. */
export function parseReference(text) {
  const match = REFERENCE.exec(text.trim().replace(/%3f/gi, '?').replace(/%3d/gi, '='));
  return match && {hash: match[1].toLowerCase(), key: match[2].toLowerCase()};
}

/** Whether this browser may decrypt: only pages of https and of this machine may. */
export const canDecrypt = () => globalThis.crypto?.subtle !== undefined;

async function contentKey(plaintext) {
  const secret = await crypto.subtle.importKey(
    'raw', PASSPHRASE, {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  const digest = new TextEncoder().encode(await sha256(plaintext));
  return hex(await crypto.subtle.sign('HMAC', secret, digest));
}

/** Check a ciphertext against its filehash, decrypt it, check the result against its key. */
export async function open(ciphertext, {hash, key}) {
  if (await sha256(ciphertext) !== hash) {
    throw new ReadError('The bytes that came are not those of this file.');
  }
  const secret = await crypto.subtle.importKey('raw', fromHex(key), 'AES-CTR', false, ['decrypt']);
  for (const first of COUNTERS) {
    const counter = new Uint8Array(16);
    counter[15] = first;
    const plaintext = await crypto.subtle.decrypt(
      {name: 'AES-CTR', counter, length: 128}, secret, ciphertext);
    if (await contentKey(plaintext) === key) return plaintext;
  }
  throw new ReadError('The key is not that of this file.');
}
