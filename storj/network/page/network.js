// The local network: its farmers, a user's buckets, and where the shards of a file lie.

import * as api from './api.js';
import {sha256, canDecrypt} from './convergent.js';
import {byId, facts, make} from './dom.js';
import {ago, bytes, plural} from './format.js';

const REFRESH = 5000;

let timer = null;
// Basic credentials of the logged-in user; nowhere but here, and gone with the page.
let credentials = null;
let farmers = new Map();

const short = (id) => id.slice(0, 8);

// -- farmers ------------------------------------------------------------------------------------

function card(farmer) {
  const name = short(farmer.node_id);
  const offered = farmer.space_offered;
  const rows = make('dl', {class: 'facts'});
  facts(rows, [
    ['Shards', String(farmer.shards)],
    ['of them mirrors', String(farmer.mirrors)],
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
    : `${bytes(farmer.bytes)} used, as much as the disk holds offered`));
  return make('li', {class: 'farmer'},
    make('div', {class: 'card-head'},
      make('h3', {}, make('code', {title: farmer.node_id}, name)),
      make('span', {class: farmer.online ? 'badge good' : 'badge bad'},
        farmer.online ? 'online' : 'offline')),
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
  farmers = new Map(rows.map((farmer) => [farmer.node_id, farmer]));
  note.hidden = rows.length > 0;
  note.textContent = 'No farmer has joined yet. Start one with storj farm.';
  const online = rows.filter((farmer) => farmer.online).length;
  byId('farmers-count').textContent = `${online} of ${plural(rows.length, 'farmer')} online`;
  facts(byId('network-totals'), [
    ['files', String(answer.totals.files)],
    ['in shards', bytes(sum(rows, (farmer) => farmer.bytes))],
    ['shards kept', String(sum(rows, (farmer) => farmer.shards))],
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

// -- buckets ------------------------------------------------------------------------------------

const asUser = (path) => api.call(path, {headers: {Authorization: credentials}});

function pick(list, button) {
  for (const other of list.querySelectorAll('button')) {
    other.setAttribute('aria-pressed', String(other === button));
  }
}

function choices(list, rows, nothing, act) {
  list.replaceChildren(...rows.map(([label, detail, row]) => {
    const button = make('button', {type: 'button', 'aria-pressed': 'false'},
      make('span', {}, label), make('span', {class: 'muted small'}, detail));
    button.addEventListener('click', () => {
      pick(list, button);
      act(row);
    });
    return make('li', {}, button);
  }));
  if (!rows.length) list.append(make('li', {class: 'empty'}, nothing));
}

function fail(error) {
  byId('login-error').textContent = error.status === 401
    ? 'The bridge does not know this e-mail and password.' : error.message;
}

async function login(event) {
  event.preventDefault();
  byId('login-error').textContent = '';
  const email = byId('email').value.trim().toLowerCase();
  const password = byId('password');
  if (!email || !password.value) {
    fail(new Error('Fill in both e-mail and password.'));
    return;
  }
  if (!canDecrypt()) {
    fail(new Error('Browsers hash passwords on https and on this machine only.'));
    return;
  }
  const digest = await sha256(new TextEncoder().encode(password.value));
  const pair = new TextEncoder().encode(`${email}:${digest}`);
  credentials = `Basic ${btoa(String.fromCharCode(...pair))}`;
  try {
    await showBuckets();
  } catch (error) {
    credentials = null;
    fail(error);
    password.focus();
    return;
  }
  password.value = '';
  byId('login').hidden = true;
  byId('logout').hidden = false;
  byId('browser').hidden = false;
  byId('bucket-list').querySelector('button')?.focus();
}

function logout() {
  credentials = null;
  byId('login').hidden = false;
  byId('logout').hidden = true;
  byId('browser').hidden = true;
  byId('map').hidden = true;
  byId('bucket-list').replaceChildren();
  byId('file-list').replaceChildren();
  byId('email').focus();
}

async function showBuckets() {
  const buckets = await asUser('buckets');
  byId('file-list').replaceChildren(make('li', {class: 'empty'}, 'Choose a bucket.'));
  choices(byId('bucket-list'), buckets.map((bucket) => [bucket.name, '', bucket]),
    'No buckets yet.', (bucket) => showFiles(bucket).catch(fail));
}

async function showFiles(bucket) {
  const files = await asUser(`buckets/${bucket.id}/files`);
  choices(byId('file-list'), files.map((file) => [file.filename, bytes(file.size), file]),
    'No files in this bucket.', (file) => showMap(bucket, file).catch(fail));
}

// -- map ----------------------------------------------------------------------------------------

/** Shards down, farmers across; a shard is healthy while a farmer that is online holds it. */
async function showMap(bucket, file) {
  const [mirrors] = await Promise.all([
    asUser(`buckets/${bucket.id}/files/${file.id}/mirrors`), showFarmers(),
  ]);
  const shards = mirrors.map(({established}) =>
    new Set(established.map(({contract}) => contract.farmer_id)));
  const holders = [...new Set(shards.flatMap((held) => [...held]))].sort();
  const alive = (id) => farmers.get(id)?.online ?? false;
  const healthy = shards.filter((held) => [...held].some(alive)).length;
  const cell = (held, id, index) => {
    if (!held.has(id)) return make('td', {}, '');
    const state = alive(id) ? 'held' : 'lost';
    const text = alive(id) ? 'held' : 'offline';
    return make('td', {class: state, title: `Shard ${index} at ${id}`}, text);
  };
  byId('map').hidden = false;
  byId('map-file').textContent = `${file.filename} · ${bytes(file.size)}`;
  const health = byId('map-health');
  health.textContent = `${healthy} of ${plural(shards.length, 'shard')} healthy`;
  health.className = `badge ${healthy === shards.length ? 'good' : 'bad'}`;
  byId('map-table').replaceChildren(make('table', {},
    make('caption', {class: 'unseen'}, `Shards of ${file.filename} and the farmers that hold them`),
    make('thead', {}, make('tr', {}, make('td', {}, ''),
      ...holders.map((id) => make('th', {scope: 'col', title: id}, short(id))))),
    make('tbody', {}, ...shards.map((held, index) =>
      make('tr', {}, make('th', {scope: 'row'}, `Shard ${index}`),
        ...holders.map((id) => cell(held, id, index)))))));
  byId('map-legend').textContent =
    'A shard is healthy while at least one farmer that holds it is online.';
  byId('map-title').focus();
}

export function start() {
  byId('login').addEventListener('submit', login);
  byId('logout').addEventListener('click', logout);
}
