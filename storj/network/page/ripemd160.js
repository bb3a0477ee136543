// RIPEMD-160 of short data, which Web Crypto does not have: of ids and digests, one block each.

const LONGEST = 55;
const BEGIN = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
const digits = (text) => Array.from(text, (digit) => parseInt(digit, 16));

// Two lines of five rounds with sixteen steps each: which word a step takes, how far it turns, what
// a round adds, and the order of the rounds' functions.
const LINES = [
  {
    words: digits('0123456789abcdef'
    + '74d1a6f3c0952eb8'
    + '3ae49f812706db5c'
    + '19ba08c4d37fe562'
    + '40597c2ae138b6fd'),
    turns: digits('befc5879bdef6798'
    + '768db97f7cf9b7dc'
    + 'bd67e9dfe8d65c75'
    + 'bcefef989e56865c'
    + '9f5b68dc5cdeb856'),
    adds: [0, 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xa953fd4e],
    functions: [0, 1, 2, 3, 4],
  },
  {
    words: digits('5e7092b4d6f81a3c'
    + '6b370d5aef8c4912'
    + 'f5137e69b8c2a04d'
    + '86413bf05c2d97ae'
    + 'cfa4158762de039b'),
    turns: digits('899bdff5778beec6'
    + '9df7c89b77c76fdb'
    + '97fb866ecd5edd75'
    + 'f58bee6e69c9c5f8'
    + '85c9c5e68d65fdbb'),
    adds: [0x50a28be6, 0x5c4dd124, 0x6d703ef3, 0x7a6d76e9, 0],
    functions: [4, 3, 2, 1, 0],
  },
];

const FUNCTIONS = [
  (x, y, z) => x ^ y ^ z,
  (x, y, z) => (x & y) | (~x & z),
  (x, y, z) => (x | ~y) ^ z,
  (x, y, z) => (x & z) | (y & ~z),
  (x, y, z) => x ^ (y | ~z),
];

const turn = (word, by) => (word << by) | (word >>> (32 - by));

function run(line, block) {
  let [a, b, c, d, e] = BEGIN;
  for (let step = 0; step < 80; step += 1) {
    const round = step >> 4;
    const mixed = a + FUNCTIONS[line.functions[round]](b, c, d)
      + block.getUint32(4 * line.words[step], true) + line.adds[round];
    const next = (turn(mixed | 0, line.turns[step]) + e) | 0;
    [a, e, d, c, b] = [e, d, turn(c, 10), b, next];
  }
  return [a, b, c, d, e];
}

/** RIPEMD-160 of at most 55 bytes. */
export function ripemd160(data) {
  if (data.length > LONGEST) throw new RangeError('RIPEMD-160 of one block only');
  const bytes = new Uint8Array(64);
  bytes.set(data);
  bytes[data.length] = 0x80;
  const block = new DataView(bytes.buffer);
  block.setUint32(56, 8 * data.length, true);
  const [left, right] = LINES.map((line) => run(line, block));
  const digest = new DataView(new ArrayBuffer(20));
  for (let word = 0; word < 5; word += 1) {
    const sum = BEGIN[(word + 1) % 5] + left[(word + 2) % 5] + right[(word + 3) % 5];
    digest.setUint32(4 * word, sum, true);
  }
  return new Uint8Array(digest.buffer);
}
