// Calls of the node and its bridge.

import {isHash} from './convergent.js';

const ROOT = new URL('../', import.meta.url);
// What a node puts before the names of files.
const NAME_PREFIX = /^[0-9a-f]{7}_/;
const PATIENCE = 20000;
// Connections in a row that may end without new bytes.
const ATTEMPTS = 3;

const TEXTS = {
  'balance-insufficient': 'The balance of your token is too low.',
  'file-not-found': 'The node does not have this file.',
  'File not found': 'The node does not have this file.',
  'file-too-large': 'The file is larger than the node accepts.',
  'upload-error': 'The node could not store the file.',
  'node-full': 'The node is full.',
  'farmers-failed': 'Too few farmers accepted the file. Try again later.',
  'error-downloading-file': 'No farmer could deliver the file. Try again later.',
  'too-many-requests': 'Too many requests. Wait a moment.',
};

/** A refusal, or no answer: `status` is 0 when nothing came. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const address = (path) => new URL(path, ROOT).href;

/** The link that shares a file: the key is in the fragment, which browsers do not send. */
export const shareLink = ({hash, key}) => `${ROOT.href}#${hash}?key=${key}`;

/** Return the message for an answer of the node. */
function explain(status, answer) {
  // Null after an error page of something between: the status must do.
  const name = answer?.reason ?? answer?.error ?? answer?.status;
  return TEXTS[name] ?? (name ? String(name) : `The node answered with status ${status}.`);
}

const parse = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

export async function call(path, {method = 'GET', body, headers = {}} = {}) {
  const request = {
    method,
    headers: {Accept: 'application/json', 'X-Requested-With': 'XMLHttpRequest', ...headers},
    cache: 'no-store',
    credentials: 'omit',
    signal: AbortSignal.timeout(PATIENCE),
  };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers['Content-Type'] = 'application/json';
  }
  let response;
  let text;
  try {
    response = await fetch(address(path), request);
    text = await response.text();
  } catch {
    throw new ApiError('The node does not answer.');
  }
  const answer = parse(text);
  if (!response.ok) throw new ApiError(explain(response.status, answer), response.status);
  if (answer === null) {
    throw new ApiError('The answer of the node is not JSON.', response.status);
  }
  return answer;
}

const token = (text) => encodeURIComponent(text);

export const newToken = async () => (await call('accounts/token/new', {method: 'POST'})).token;
export const balance = async (t) => (await call(`accounts/token/balance/${token(t)}`)).balance;
export const prices = async () => (await call('accounts/token/prices')).prices;
export const redeem = (t, promocode) =>
  call(`accounts/token/redeem/${token(t)}`, {method: 'POST', body: {promocode}});
export const status = () => call('api/status');
export const node = () => call('api/node');
export const network = () => call('status');
export const find = (hash) => call(`api/find/${hash}`);

/** Find name and size of a file of the node by its reference, {hash, key}. */
export async function lookUp({hash, key}) {
  const found = await find(hash);
  return {name: found.filename.replace(NAME_PREFIX, ''), hash, key, size: found.filesize};
}

/** Send a file; `onProgress` gets the bytes sent. Returns the request, to abort it, and a promise. */
export function upload(file, accessToken, onProgress) {
  const request = new XMLHttpRequest();
  const form = new FormData();
  if (accessToken) form.append('token', accessToken);
  form.append('file', file, file.name);
  const done = new Promise((resolve, reject) => {
    request.upload.addEventListener('progress', (event) => {
      if (event.lengthComputable) onProgress(file.size * event.loaded / event.total);
    });
    request.addEventListener('load', () => {
      const stored = request.status === 201 && isHash(request.response?.filehash)
        && isHash(request.response.key);
      if (stored) resolve(request.response);
      else reject(new ApiError(explain(request.status, request.response), request.status));
    });
    request.addEventListener('error', () =>
      reject(new ApiError('The connection to the node was lost.')));
    request.addEventListener('abort', () => reject(new ApiError('Cancelled.')));
  });
  request.open('POST', address('api/upload'));
  request.responseType = 'json';
  request.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
  request.send(form);
  return {done, abort: () => request.abort()};
}

/** The pieces of a stream, which not all browsers iterate over themselves. */
export async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    // Also when whoever wanted the bytes has had enough of them.
    reader.cancel().catch(() => {});
  }
}

/**
 * Fetch a file as it is stored, in pieces, without sending its key.
 *
 * A lost connection is resumed where it broke, as long as new bytes arrive.
 */
export async function* ciphertext(hash, accessToken, signal) {
  const query = accessToken ? `?token=${token(accessToken)}` : '';
  let received = 0;
  for (let failures = 0; ; failures += 1) {
    const before = received;
    try {
      const response = await fetch(address(`api/download/${hash}${query}`), {
        headers: received ? {Range: `bytes=${received}-`} : {},
        // A large file would push everything else out of the browser's cache.
        cache: 'no-store',
        credentials: 'omit',
        signal,
      });
      if (response.status !== (received ? 206 : 200)) {
        const answer = parse(await response.text());
        throw new ApiError(explain(response.status, answer), response.status);
      }
      for await (const piece of pieces(response.body)) {
        received += piece.length;
        yield piece;
      }
      return;
    } catch (error) {
      if (signal.aborted) throw new ApiError('Cancelled.');
      if (error instanceof ApiError) throw error;
      if (received > before) failures = 0;
      if (failures === ATTEMPTS - 1) {
        throw new ApiError(received ? 'The connection to the node was lost.'
          : 'The node does not answer.');
      }
    }
  }
}
