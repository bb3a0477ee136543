// Keys and names of an account's buckets and files, from its encryption key (protocol reference,
// sections 6.3 and 6.4):
//   seed        PBKDF2-HMAC-SHA512(encryption key, "mnemonic", 2048 rounds)
//   bucket key  SHA-512(seed + bucket id), cut to 32 bytes
//   file key    SHA-512(bucket key + index of the file), cut to 32 bytes
//   name        Base64(tag 16 + nonce 32 + AES-256-GCM), key HMAC-SHA512(bucket key, META), cut to 32

import {fromHex, hex} from './ctr.js';
import {ripemd160} from './ripemd160.js';

const BUCKET_NAMES = '398734aab3c4c30c9f22590e83a95f7e43556a45fc2b3060e0c39fde31f50272';
const META = '42964710327258a0a3239a41a2d5e2d7468a393d3413d2aa26a4a2c856c90251';
const ROUNDS = 2048;
const TAG = 16;
const HEAD = TAG + 32;
const KEY = 32;
const encode = (text) => new TextEncoder().encode(text);

/** The words of an encryption key with one space between them, as all clients derive keys from. */
export const normalise = (words) => words.trim().split(/\s+/).join(' ');

/** The seed of an encryption key, 64 bytes. */
export async function seedOf(words) {
  const secret = await crypto.subtle.importKey(
    'raw', encode(words.normalize('NFKD')), 'PBKDF2', false, ['deriveBits']);
  const how = {name: 'PBKDF2', hash: 'SHA-512', salt: encode('mnemonic'), iterations: ROUNDS};
  return new Uint8Array(await crypto.subtle.deriveBits(how, secret, 512));
}

async function step(key, identifier) {
  const data = new Uint8Array([...key, ...identifier]);
  return new Uint8Array(await crypto.subtle.digest('SHA-512', data)).subarray(0, KEY);
}

async function hmac(key, data) {
  const secret = await crypto.subtle.importKey(
    'raw', key, {name: 'HMAC', hash: 'SHA-512'}, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', secret, data));
}

/** The key of a bucket from its id, 24 hex digits. */
export const bucketKey = (seed, id) => step(seed, fromHex(id));

/** The key that the names of files in a bucket are encrypted with. */
export async function nameKey(key) {
  const raw = (await hmac(key, fromHex(META))).subarray(0, KEY);
  return crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['decrypt']);
}

/** The key that the names of an account's buckets are encrypted with. */
export const bucketNameKey = async (seed) => nameKey(await bucketKey(seed, BUCKET_NAMES));

function sealed(text) {
  try {
    return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  } catch {
    return new Uint8Array(0);
  }
}

/** Whether a stored name has the form of an encrypted one. */
export const looksEncrypted = (text) => sealed(text).length > HEAD;

/** The name that a stored one stands for; null if it was not encrypted with this key. */
export async function decryptName(key, text) {
  const bytes = sealed(text);
  if (bytes.length <= HEAD) return null;
  const iv = bytes.subarray(TAG, HEAD);
  // Web Crypto wants the tag at the end.
  const data = new Uint8Array([...bytes.subarray(HEAD), ...bytes.subarray(0, TAG)]);
  try {
    return new TextDecoder().decode(await crypto.subtle.decrypt({name: 'AES-GCM', iv}, key, data));
  } catch {
    return null;
  }
}

/** Key and first counter block of a file's content: of its index or, without one, of its id. */
export async function contentKey(key, {index, id}) {
  if (index) {
    const raw = fromHex(index);
    return {key: await step(key, raw), counter: raw.subarray(0, 16)};
  }
  const digits = encode(hex(await step(key, fromHex(id))));
  return {
    key: new Uint8Array(await crypto.subtle.digest('SHA-256', digits)),
    counter: ripemd160(encode(id)).subarray(0, 16),
  };
}

/** The HMAC of a file over the hashes of all its shards, in hex. */
export const fileHmac = async (key, hashes) => hex(await hmac(key, fromHex(hashes.join(''))));
