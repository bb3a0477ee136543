// SHA-256 of data that come in pieces (FIPS 180-4). Web Crypto wants the whole data at once, and a
// file may be larger than memory.

const ROUNDS = 64;
const BLOCK = 64;

/** The first 32 bits of the fractional part of a root of each of the first primes. */
function fractions(count, root) {
  const words = new Int32Array(count);
  for (let found = 0, candidate = 2; found < count; candidate += 1) {
    let prime = true;
    for (let divisor = 2; divisor * divisor <= candidate; divisor += 1) {
      if (candidate % divisor === 0) prime = false;
    }
    if (prime) {
      words[found] = (root(candidate) % 1) * 2 ** 32;
      found += 1;
    }
  }
  return words;
}

const CONSTANTS = fractions(ROUNDS, Math.cbrt);
const BEGIN = fractions(8, Math.sqrt);

export class Sha256 {
  constructor() {
    this.state = BEGIN.slice();
    this.size = 0;
    this.block = new Uint8Array(BLOCK);
    this.words = new Int32Array(ROUNDS);
  }

  /** Take the next bytes, a Uint8Array. */
  update(data) {
    let offset = 0;
    const filled = this.size % BLOCK;
    this.size += data.length;
    if (filled) {
      const head = data.subarray(0, BLOCK - filled);
      this.block.set(head, filled);
      if (filled + head.length < BLOCK) return;
      this.compress(this.block, 0);
      offset = head.length;
    }
    for (; offset + BLOCK <= data.length; offset += BLOCK) this.compress(data, offset);
    this.block.set(data.subarray(offset));
  }

  /** The digest of all bytes as 64 hex digits; nothing can be added after that. */
  hex() {
    const bits = this.size * 8;
    // One bit, zeros, and the length in the last 8 bytes of a block.
    const padding = new Uint8Array(BLOCK - (this.size + 8) % BLOCK + 8);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(padding.length - 4, bits % 2 ** 32);
    this.update(padding);
    return Array.from(this.state, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  compress(data, offset) {
    const {state, words} = this;
    for (let index = 0, at = offset; index < 16; index += 1, at += 4) {
      words[index] = data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3];
    }
    for (let index = 16; index < ROUNDS; index += 1) {
      const low = words[index - 15];
      const high = words[index - 2];
      words[index] = words[index - 16] + words[index - 7]
        + ((low >>> 7 | low << 25) ^ (low >>> 18 | low << 14) ^ low >>> 3)
        + ((high >>> 17 | high << 15) ^ (high >>> 19 | high << 13) ^ high >>> 10);
    }
    // One by one: taking an array apart costs more than a round.
    let a = state[0];
    let b = state[1];
    let c = state[2];
    let d = state[3];
    let e = state[4];
    let f = state[5];
    let g = state[6];
    let h = state[7];
    for (let index = 0; index < ROUNDS; index += 1) {
      const first = (h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7))
        + (g ^ e & (f ^ g)) + CONSTANTS[index] + words[index]) | 0;
      const second = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10))
        + (a & b | c & (a | b));
      h = g;
      g = f;
      f = e;
      e = (d + first) | 0;
      d = c;
      c = b;
      b = a;
      a = (first + second) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}
