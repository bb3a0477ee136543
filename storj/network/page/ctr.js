// AES-256-CTR over a stream, piece by piece, by Web Crypto.

const BLOCK = 16;
const PIECE = 1024 * 1024;
const COUNTERS = 1n << 128n;

export const hex = (buffer) =>
  Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');

export const fromHex = (text) =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/** Whether this browser may decrypt: only pages of https and of this machine may. */
export const canDecrypt = () => globalThis.crypto?.subtle !== undefined;

/** The counter block of a file's byte `offset`, a multiple of 16; `first` is that of byte 0. */
function counterAt(first, offset) {
  const counter = (BigInt(`0x${hex(first)}`) + BigInt(offset / BLOCK)) % COUNTERS;
  return fromHex(counter.toString(16).padStart(2 * BLOCK, '0'));
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
 * Decrypt a stream: yields {cipher, plain} for each piece, valid until the next.
 *
 * `key` has 32 bytes and `first` 16: the counter block of the first byte.
 */
export async function* decrypt(key, first, stream) {
  const secret = await crypto.subtle.importKey('raw', key, 'AES-CTR', false, ['decrypt']);
  let offset = 0;
  for await (const cipher of recut(stream)) {
    const counter = counterAt(first, offset);
    const plain = await crypto.subtle.decrypt({name: 'AES-CTR', counter, length: 128}, secret, cipher);
    yield {cipher, plain: new Uint8Array(plain)};
    offset += cipher.length;
  }
}
