// The map of a file: a row per shard, a column per farmer, and the state of each.

import {byId, make} from './dom.js';
import {bytes, plural} from './format.js';

// Of a large file; the others are shown when asked for.
const FIRST = 100;
const EXPLAINED = {
  held: 'A shard is healthy while a farmer that is online holds it.',
  offline: '“offline”: the farmer has it, but did not answer lately.',
  lost: '“lost”: the farmer could not prove in an audit that it still has it.',
  promised: '“promised”: the farmer has a contract, but nobody has told of the transfer yet.',
};

let whole = false;
let drawn = '';

export const short = (id) => id.slice(0, 8);

/**
 * Show the map of `{name, size, shards}`; a shard is a Map of node id to `held`, `lost` or
 * `promised`.
 */
export function openMap(next, isOnline) {
  whole = false;
  drawn = '';
  byId('map').hidden = false;
  updateMap(next, isOnline);
  byId('map-title').focus();
}

export function closeMap() {
  byId('map').hidden = true;
}

/** Draw the map again if anything has changed since. */
export function updateMap(next, isOnline) {
  const stateOf = (held, id) =>
    (held.get(id) === 'held' && !isOnline(id) ? 'offline' : held.get(id));
  const shards = next.shards.map((held) =>
    new Map([...held.keys()].map((id) => [id, stateOf(held, id)])));
  const key = JSON.stringify(shards.map((held) => [...held]));
  if (key === drawn) return;
  drawn = key;
  draw(next, shards);
}

function draw(file, shards) {
  const isHealthy = (index) => [...shards[index].values()].includes('held');
  const holders = [...new Set(shards.flatMap((held) => [...held.keys()]))].sort();
  const healthy = [...shards.keys()].filter(isHealthy).length;
  let rows = [...shards.keys()];
  if (rows.length > FIRST && !whole) {
    // Those in trouble first, for they are what one looks for.
    rows = rows.sort((a, b) => isHealthy(a) - isHealthy(b)).slice(0, FIRST);
  }
  const cell = (index, id) => {
    const state = shards[index].get(id);
    return state
      ? make('td', {class: state, title: `Shard ${index} at ${id}`}, state)
      : make('td', {class: 'none'}, make('span', {class: 'unseen'}, 'none'));
  };
  byId('map-file').textContent = `${file.name} · ${bytes(file.size)}`;
  const health = byId('map-health');
  health.textContent = `${healthy} of ${plural(shards.length, 'shard')} healthy`;
  health.className = `badge ${healthy === shards.length ? 'good' : 'bad'}`;
  byId('map-table').hidden = !shards.length;
  byId('map-table').replaceChildren(make('table', {},
    make('caption', {class: 'unseen'}, `Shards of ${file.name} and the farmers that hold them`),
    make('thead', {}, make('tr', {}, make('td', {}, ''),
      ...holders.map((id) => make('th', {scope: 'col', title: id}, short(id))))),
    make('tbody', {}, ...rows.map((index) =>
      make('tr', {}, make('th', {scope: 'row'}, `Shard ${index}`),
        ...holders.map((id) => cell(index, id)))))));
  const more = byId('map-more');
  more.hidden = rows.length === shards.length;
  more.textContent = `Show all ${shards.length} shards`;
  more.onclick = () => {
    whole = true;
    draw(file, shards);
    byId('map-table').focus();
  };
  const states = new Set(['held', ...shards.flatMap((held) => [...held.values()])]);
  byId('map-legend').textContent = shards.length
    ? Object.keys(EXPLAINED).filter((state) => states.has(state))
      .map((state) => EXPLAINED[state]).join(' ')
    : 'An empty file has no shards.';
}
