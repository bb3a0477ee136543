// The dialog that shows where a file's shards are: each shard, the farmers that have it, their state.

import * as api from './api.js';
import {byId, make} from './dom.js';
import {bytes, plural} from './format.js';

const REFRESH = 5000;
// Of a large file; the others are shown when asked for.
const FIRST = 100;
const EXPLAINED = {
  held: 'A shard is healthy while a farmer that is online has it.',
  offline: '“offline”: the farmer has it, but has not answered lately.',
  lost: '“lost”: the farmer failed an audit of it.',
  promised: '“promised”: the farmer has a contract, but no transfer has been reported yet.',
};

// Fetches what the dialog shows; null while it is closed.
let load = null;
let timer = null;
let whole = false;
let drawn = '';

export const short = (id) => id.slice(0, 8);

/** Fetch a file's shards and the farmers that are online; what the farmers lack is `offline`. */
async function look() {
  const asked = load;
  const [shards, {farmers}] = await Promise.all([asked(), api.network()]);
  if (asked !== load) return;
  const online = new Set(farmers.filter((farmer) => farmer.online).map((farmer) => farmer.node_id));
  const states = shards.map((held) => [...held].map(([id, state]) =>
    [id, state === 'held' && !online.has(id) ? 'offline' : state]));
  const key = JSON.stringify(states);
  if (key === drawn) return;
  drawn = key;
  draw(states);
}

const isHealthy = (copies) => copies.some(([, state]) => state === 'held');

function copyOf([id, state]) {
  return make('li', {class: `copy ${state}`, title: `Farmer ${id}`},
    make('code', {}, short(id)), ' ', state === 'held' ? make('span', {class: 'unseen'}, state) : state);
}

function rowOf(copies, index) {
  return make('li', {class: 'shard', value: index},
    make('span', {class: 'shard-name'}, `Shard ${index}`),
    copies.length ? make('ul', {class: 'copies', 'aria-label': `Farmers of shard ${index}`},
      ...copies.map(copyOf)) : make('span', {class: 'bad'}, 'no farmer'));
}

function draw(shards) {
  const healthy = shards.filter(isHealthy).length;
  let rows = [...shards.keys()];
  if (rows.length > FIRST && !whole) {
    // Those in trouble first, for they are what one looks for.
    rows = rows.sort((a, b) => isHealthy(shards[a]) - isHealthy(shards[b])).slice(0, FIRST);
  }
  const health = byId('details-health');
  health.textContent = `${healthy} of ${plural(shards.length, 'shard')} healthy`;
  health.className = `badge ${healthy === shards.length ? 'good' : 'bad'}`;
  byId('details-note').textContent = '';
  byId('details-shards').replaceChildren(...rows.map((index) => rowOf(shards[index], index)));
  const more = byId('details-more');
  more.hidden = rows.length === shards.length;
  more.textContent = `Show all ${shards.length} shards`;
  more.onclick = () => {
    whole = true;
    draw(shards);
    byId('details-title').focus();
  };
  const states = new Set(['held', ...shards.flatMap((copies) => copies.map(([, state]) => state))]);
  byId('details-legend').textContent = shards.length
    ? Object.keys(EXPLAINED).filter((state) => states.has(state))
      .map((state) => EXPLAINED[state]).join(' ')
    : 'An empty file has no shards.';
}

function fail(error) {
  byId('details-note').textContent = error.message;
}

/**
 * Open the dialog for `{name, size}`; `next()` fetches its shards, each a Map of node id to `held`,
 * `lost` or `promised`.
 */
export async function open({name, size}, next) {
  load = next;
  whole = false;
  drawn = '';
  byId('details-title').textContent = name;
  byId('details-title').title = name;
  byId('details-size').textContent = bytes(size);
  byId('details-health').textContent = '…';
  byId('details-health').className = 'badge';
  byId('details-note').textContent = 'Asking the bridge…';
  byId('details-shards').replaceChildren();
  byId('details-legend').textContent = '';
  byId('details-more').hidden = true;
  if (!byId('details').open) byId('details').showModal();
  clearInterval(timer);
  timer = setInterval(() => document.hidden || look().catch(fail), REFRESH);
  await look().catch(fail);
}

/** Open the dialog for a file of the node, `{hash, name, size}`. */
export function showStored(file) {
  return open(file, async () => {
    const found = await api.find(file.hash);
    const shards = Array.from({length: found.shards}, () => new Map());
    for (const place of found.uploads) {
      for (const index of place.shards) {
        shards[index].set(place.host_name, place.error ? 'lost' : 'held');
      }
    }
    return shards;
  });
}

export function start() {
  const dialog = byId('details');
  byId('details-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  dialog.addEventListener('close', () => {
    clearInterval(timer);
    load = null;
  });
}
