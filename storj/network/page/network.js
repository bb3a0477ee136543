// The local network: its farmers, and the files whose shards the user may see.

import * as api from './api.js';
import {byId, facts, make, notice} from './dom.js';
import {ago, bytes, plural} from './format.js';
import {closeMap, openMap, short, updateMap} from './map.js';
import {Sha256} from './sha256.js';
import {getHistory} from './store.js';

const REFRESH = 5000;

let timer = null;
// Basic credentials of the logged-in user; kept in this variable only.
let credentials = null;
let farmers = new Map();
// Fetches what the map shows; null without a map.
let load = null;

const isOnline = (id) => farmers.get(id)?.online ?? false;

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
  farmers = new Map(rows.map((farmer) => [farmer.node_id, farmer]));
  note.hidden = rows.length > 0;
  note.textContent = 'No farmer has joined yet. Start one with storj farm.';
  const online = rows.filter((farmer) => farmer.online).length;
  byId('farmers-count').textContent = `${online} of ${plural(rows.length, 'farmer')} online`;
  facts(byId('network-totals'), [
    ['files', String(answer.totals.files)],
    ['in shards', bytes(sum(rows, (farmer) => farmer.bytes))],
    ['shards kept', String(sum(rows, (farmer) => farmer.shards))],
    ['shards with too few copies', String(answer.totals.under_replicated)],
    ['audits passed', String(sum(rows, (farmer) => farmer.audits_passed))],
    ['audits failed', String(sum(rows, (farmer) => farmer.audits_failed))],
  ]);
  byId('farmers').replaceChildren(...rows.map(card));
}

async function refresh() {
  if (document.hidden) return;
  const asked = load;
  try {
    const [file] = await Promise.all([asked?.(), showFarmers()]);
    if (file && asked === load) updateMap(file, isOnline);
  } catch {
    // The map stays as it was; whether anything answers at all is told beside the farmers.
  }
}

/** Keep the view fresh while it is looked at. */
export function watch(seen) {
  clearInterval(timer);
  if (!seen) return;
  showFarmers();
  timer = setInterval(refresh, REFRESH);
}

// -- files --------------------------------------------------------------------------------------

const asUser = (path) => api.call(path, {headers: {Authorization: credentials}});

function pick(list, button) {
  for (const other of list.querySelectorAll('button')) {
    other.setAttribute('aria-pressed', String(other === button));
  }
}

function choices(list, rows, nothing) {
  list.replaceChildren(...rows.map(([label, detail, act]) => {
    const button = make('button', {type: 'button', 'aria-pressed': 'false'},
      make('span', {}, label), make('span', {class: 'muted small'}, detail));
    button.addEventListener('click', () => {
      pick(list, button);
      act();
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
  const digest = new Sha256();
  digest.update(new TextEncoder().encode(password.value));
  const pair = new TextEncoder().encode(`${email}:${digest.hex()}`);
  credentials = `Basic ${btoa(String.fromCharCode(...pair))}`;
  try {
    showBuckets(await asUser('buckets'));
  } catch (error) {
    credentials = null;
    fail(error);
    password.focus();
    return;
  }
  password.value = '';
  byId('login').hidden = true;
  byId('logout').hidden = false;
  byId('bucket-list').querySelector('button').focus();
}

function logout() {
  credentials = null;
  byId('login').hidden = false;
  byId('logout').hidden = true;
  hideMap();
  showBuckets([]);
  byId('email').focus();
}

/** List the files of this browser, and the buckets of the logged-in user. */
function showBuckets(buckets) {
  byId('file-list').replaceChildren(make('li', {class: 'empty'}, 'Choose a bucket.'));
  choices(byId('bucket-list'), [
    ['MetaDisk', 'files of this browser', showHistory],
    ...buckets.map((bucket) => [bucket.name, 'bucket', () => showFiles(bucket).catch(fail)]),
  ]);
}

function showHistory() {
  const show = ({hash}) => {
    const target = `#network/${hash}`;
    if (location.hash === target) showStored(hash);
    else location.hash = target;
  };
  choices(byId('file-list'), getHistory().map((file) => [
    file.name, bytes(file.size), () => show(file),
  ]), 'No files yet.');
}

async function showFiles(bucket) {
  const files = await asUser(`buckets/${bucket.id}/files`);
  choices(byId('file-list'), files.map((file) => [
    file.filename, bytes(file.size), () => showEntry(bucket, file).catch(fail),
  ]), 'No files in this bucket.');
}

async function showMap(next) {
  load = next;
  const [file] = await Promise.all([next(), showFarmers()]);
  // Another file may have been chosen meanwhile.
  if (load === next) openMap(file, isOnline);
}

function hideMap() {
  load = null;
  closeMap();
}

async function showEntry(bucket, file) {
  history.replaceState(null, '', '#network');
  await showMap(async () => {
    const mirrors = await asUser(`buckets/${bucket.id}/files/${file.id}/mirrors`);
    const shards = mirrors.map(({established}) => new Map(established.map((mirror) => [
      mirror.contract.farmer_id,
      mirror.failed ? 'lost' : mirror.stored === false ? 'promised' : 'held',
    ])));
    return {name: file.filename, size: file.size, shards};
  });
}

/** Show which farmers have a file of the node, by its filehash. */
export async function showStored(hash) {
  try {
    await showMap(async () => {
      const found = await api.find(hash);
      const shards = Array.from({length: found.shards}, () => new Map());
      for (const place of found.uploads) {
        for (const index of place.shards) {
          shards[index].set(place.host_name, place.error ? 'lost' : 'held');
        }
      }
      const known = getHistory().find((file) => file.hash === hash);
      return {name: known?.name ?? found.filename, size: found.filesize, shards};
    });
  } catch (error) {
    hideMap();
    notice(error.message, 'bad');
  }
}

export function start() {
  byId('login').addEventListener('submit', login);
  byId('logout').addEventListener('click', logout);
  showBuckets([]);
}
