// The farmers of the network.

import * as api from './api.js';
import {short} from './details.js';
import {byId, facts, make} from './dom.js';
import {ago, bytes, plural} from './format.js';

const REFRESH = 5000;

let timer = null;

function card(farmer) {
  const name = short(farmer.node_id);
  const offered = farmer.space_offered;
  const rows = make('dl', {class: 'facts'});
  facts(rows, [
    ['Shards', String(farmer.shards)],
    ['Mirrors among them', String(farmer.mirrors)],
    ['Audits', `${farmer.audits_passed} passed, ${farmer.audits_failed} failed`],
    ['Protocol', farmer.protocol],
    ['Address', `${farmer.address}:${farmer.port}`],
    ['Last seen', ago(Date.parse(farmer.last_seen))],
  ]);
  const space = make('div', {class: 'gauge'});
  if (offered) {
    space.append(make('meter', {
      min: 0, max: offered, value: Math.min(farmer.bytes, offered),
      'aria-label': `Space used of farmer ${name}`,
    }));
  }
  space.append(make('span', {class: 'muted small'}, offered
    ? `${bytes(farmer.bytes)} of ${bytes(offered)} used`
    : `${bytes(farmer.bytes)} used, no limit set`));
  return make('li', {class: 'farmer'},
    make('div', {class: 'card-head'},
      make('h3', {}, make('code', {title: farmer.node_id}, name)),
      make('span', {class: farmer.online ? 'badge good' : 'badge bad'},
        farmer.online ? 'online' : farmer.lost ? 'lost' : 'offline')),
    space, rows);
}

function sum(rows, of) {
  return rows.reduce((total, row) => total + of(row), 0);
}

async function showFarmers() {
  const note = byId('farmers-note');
  let answer;
  try {
    answer = await api.network();
  } catch (error) {
    note.hidden = false;
    note.textContent = error.message;
    return;
  }
  const rows = answer.farmers;
  note.hidden = rows.length > 0;
  note.textContent = 'No farmer has joined yet. “storj farm” starts one.';
  const online = rows.filter((farmer) => farmer.online).length;
  byId('farmers-count').textContent = `${online} of ${plural(rows.length, 'farmer')} online`;
  facts(byId('network-totals'), [
    ['files', String(answer.totals.files)],
    ['stored in shards', bytes(sum(rows, (farmer) => farmer.bytes))],
    ['shards and mirrors', String(sum(rows, (farmer) => farmer.shards))],
    ['shards with too few copies', String(answer.totals.under_replicated)],
    ['audits passed', String(sum(rows, (farmer) => farmer.audits_passed))],
    ['audits failed', String(sum(rows, (farmer) => farmer.audits_failed))],
  ]);
  byId('farmers').replaceChildren(...rows.map(card));
}

/** Keep the view fresh while it is looked at. */
export function watch(seen) {
  clearInterval(timer);
  if (!seen) return;
  showFarmers();
  timer = setInterval(() => document.hidden || showFarmers(), REFRESH);
}
