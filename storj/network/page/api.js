// What the node and its bridge are asked.

const ROOT = new URL('../', import.meta.url);
const PATIENCE = 20000;

const TEXTS = {
  'balance-insufficient': 'The balance of your token is too low.',
  'file-not-found': 'The node does not have this file.',
  'File not found': 'The node does not have this file.',
  'file-too-large': 'The file is larger than the node takes.',
  'upload-error': 'The node could not store the file: too little room, or too few farmers.',
  'error-downloading-file': 'No farmer could give the file now. Try again later.',
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

/** The link that shares a file: the key stands in the fragment, which browsers do not send. */
export const shareLink = ({hash, key}) => `${ROOT.href}#${hash}?key=${key}`;

/** What an answer of the node says in words. */
export function explain(status, body) {
  let name = '';
  try {
    const answer = JSON.parse(body);
    name = answer.error ?? answer.status ?? '';
  } catch {
    // An error page of something between: the status must do.
  }
  return TEXTS[name] ?? (name ? String(name) : `The node answered with status ${status}.`);
}

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
  if (!response.ok) throw new ApiError(explain(response.status, text), response.status);
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError('The node answered with something else than JSON.', response.status);
  }
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

/** Send a file; `onProgress` gets the share sent. Returns the request, to abort it, and a promise. */
export function upload(file, accessToken, onProgress) {
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append('token', accessToken);
  form.append('file', file, file.name);
  const done = new Promise((resolve, reject) => {
    request.upload.addEventListener('progress', (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener('load', () => {
      if (request.status === 201) resolve(JSON.parse(request.responseText));
      else reject(new ApiError(explain(request.status, request.responseText), request.status));
    });
    request.addEventListener('error', () =>
      reject(new ApiError('The connection to the node broke off.')));
    request.addEventListener('abort', () => reject(new ApiError('Cancelled.')));
  });
  request.open('POST', address('api/upload'));
  request.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
  request.send(form);
  return {done, abort: () => request.abort()};
}

/** Fetch a file as it is stored, without telling its key; `onProgress` gets the share received. */
export async function ciphertext(hash, accessToken, limit, onProgress) {
  const query = accessToken ? `?token=${token(accessToken)}` : '';
  let response;
  try {
    response = await fetch(address(`api/download/${hash}${query}`), {credentials: 'omit'});
  } catch {
    throw new ApiError('The node does not answer.');
  }
  if (!response.ok) throw new ApiError(explain(response.status, await response.text()), response.status);
  const total = Number(response.headers.get('Content-Length')) || 0;
  const pieces = [];
  let received = 0;
  try {
    for (const reader = response.body.getReader(); ;) {
      const {done, value} = await reader.read();
      if (done) break;
      received += value.length;
      if (received > limit) {
        await reader.cancel();
        throw new ApiError('The file is too large for a browser: use the command line.');
      }
      pieces.push(value);
      onProgress(total ? received / total : 0);
    }
  } catch (error) {
    throw error instanceof ApiError ? error : new ApiError('The connection to the node broke off.');
  }
  return new Blob(pieces).arrayBuffer();
}
