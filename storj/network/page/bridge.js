// Calls of the bridge: as a user with Basic credentials, or with the tokens of a share link.

import * as api from './api.js';
import {Sha256} from './sha256.js';

// Entries of a full page (protocol reference, section 8.1), and of all that are looked at.
const BUCKETS_PAGE = 5000;
const FILES_PAGE = 2000;
const MOST = 50000;
const POINTERS_PAGE = 32;
// Shards of a file: enough for 16 TiB in shards of the greatest size.
const MOST_SHARDS = 8192;

// What a bridge says of a token that is used or has ended, with status 500.
const SPENT = 'Invalid or expired token';

/** The Authorization header of a user; the password goes nowhere, only its hash. */
export function authorization(email, password) {
  const digest = new Sha256();
  digest.update(new TextEncoder().encode(password));
  const pair = new TextEncoder().encode(`${email}:${digest.hex()}`);
  return `Basic ${btoa(String.fromCharCode(...pair))}`;
}

const isEntry = (row) => row && /^[0-9a-f]{24}$/.test(row.id);

/**
 * Fetch a listing whose pages continue after a time of creation. Returns the entries, and whether
 * there are more than are looked at.
 */
async function list(path, headers, pageSize, onCount) {
  const found = new Map();
  let start = '';
  for (;;) {
    const page = await api.call(`${path}${start && `?startDate=${encodeURIComponent(start)}`}`, {headers});
    if (!Array.isArray(page)) throw new api.ApiError('The answer of the bridge is no list.');
    const before = found.size;
    for (const row of page.filter(isEntry)) found.set(row.id, row);
    onCount(found.size);
    const last = page.at(-1)?.created;
    const isLast = page.length < pageSize || found.size === before || !last || last === start;
    if (isLast || found.size >= MOST) return {rows: [...found.values()], isCut: !isLast};
    start = last;
  }
}

export const buckets = (authorized, onCount = () => {}) =>
  list('buckets', {Authorization: authorized}, BUCKETS_PAGE, onCount);

export const files = (authorized, bucket, onCount) =>
  list(`buckets/${bucket}/files`, {Authorization: authorized}, FILES_PAGE, onCount);

/** The farmers of each shard: a Map of node id to `held`, `lost` or `promised`. */
export async function mirrors(authorized, bucket, file) {
  const shards = await api.call(`buckets/${bucket}/files/${file}/mirrors`,
    {headers: {Authorization: authorized}});
  return shards.map(({established}) => new Map(established.map((mirror) => [
    mirror.contract.farmer_id,
    mirror.failed ? 'lost' : mirror.stored === false ? 'promised' : 'held',
  ])));
}

/** A file of the user's bucket, as `remote.js` reads it. */
export function ownFile(authorized, bucket, id) {
  const headers = {Authorization: authorized};
  return {
    info: () => api.call(`buckets/${bucket}/files/${id}/info`, {headers}),
    pointers: (skip, limit, exclude) =>
      api.call(pointersPath(bucket, id, skip, limit, exclude), {headers}),
    report: (body) => api.call('reports/exchanges', {method: 'POST', headers, body}),
  };
}

/** A file that a share link describes; each request for pointers takes one of its tokens. */
export function sharedFile({bucket, file, size, entry, tokens}) {
  const left = [...tokens];
  return {
    info: async () => ({...entry, id: file, size}),
    async pointers(skip, limit, exclude) {
      for (;;) {
        if (!left.length) throw new api.ApiError('This link is used up. Ask for a new one.');
        try {
          return await api.call(pointersPath(bucket, file, skip, limit, exclude),
            {headers: {'x-token': left.shift()}});
        } catch (error) {
          // Another holder of the link has used this token.
          if (error.message !== SPENT) throw error;
        }
      }
    },
    // A report names who transferred.
    report: async () => {},
  };
}

function pointersPath(bucket, file, skip, limit, exclude) {
  const query = new URLSearchParams({skip, limit});
  if (exclude.length) query.set('exclude', exclude.join(','));
  return `buckets/${bucket}/files/${file}?${query}`;
}

const isPointer = (row, index) => row && /^[0-9a-f]{40}$/.test(row.hash)
  && Number.isSafeInteger(row.size) && row.size > 0 && (row.index ?? index) === index;

/** Fetch the pointers to all shards of a file, in their order. */
export async function allPointers(source) {
  const all = [];
  for (;;) {
    const page = await source.pointers(all.length, POINTERS_PAGE, []);
    if (!Array.isArray(page)) throw new api.ApiError('The answer of the bridge is no list.');
    for (const row of page) {
      if (!isPointer(row, all.length)) throw new api.ApiError('The bridge describes no shard.');
      all.push(row);
    }
    if (all.length > MOST_SHARDS) throw new api.ApiError('The file has too many shards.');
    if (page.length < POINTERS_PAGE) return all;
  }
}

/** Fetch a shard from the farmer that a pointer names, by way of the node. */
export async function shard({hash, size, token, farmer}, signal) {
  const query = new URLSearchParams({farmer: farmer.nodeID, size});
  const response = await fetch(api.address(`api/shards/${hash}?${query}`), {
    headers: {'x-token': token}, cache: 'no-store', credentials: 'omit', signal,
  });
  if (!response.ok) throw new api.ApiError('The farmer does not give the shard.', response.status);
  return response.body;
}
