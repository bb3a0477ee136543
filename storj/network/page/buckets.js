// The view of an account's buckets: which of them is shown, its files, and signing in.

import {ApiError} from './api.js';
import * as bridge from './bridge.js';
import {canDecrypt} from './ctr.js';
import {byId, make} from './dom.js';
import {plural} from './format.js';
import * as keys from './keys.js';
import {forgetKey, resume, session, signIn, signOut, useKey} from './session.js';
import * as table from './table.js';

let buckets = null;
// Where one is: a bucket's id, and a folder that is empty or ends with a slash.
let place = {bucket: '', folder: ''};
// Files by the id of their bucket.
const contents = new Map();
// Counts what has been asked for, so that a late answer does not replace a newer one.
let asked = 0;

const moment = (text) => Date.parse(text) || 0;

// -- names ---------------------------------------------------------------------------------------

/** The entries of a listing with their names in clear, where the encryption key opens them. */
async function named(rows, stored, key) {
  return Promise.all(rows.map(async (row) => {
    const text = String(row[stored] ?? row.id);
    const clear = key && await keys.decryptName(key, text);
    return {
      id: row.id, path: clear ?? text, name: clear ?? text, size: Number(row.size) || 0,
      created: moment(row.created), isOpen: clear !== null || !keys.looksEncrypted(text),
    };
  }));
}

async function loadBuckets() {
  const {rows} = await bridge.buckets(session.authorized);
  await nameBuckets(rows);
}

async function nameBuckets(rows) {
  const key = session.seed && await keys.bucketNameKey(session.seed);
  buckets = await named(rows, 'name', key);
}

async function loadFiles(id) {
  const {rows, isCut} = await bridge.files(session.authorized, id, (count) => {
    if (count) table.tell(`Loading, ${plural(count, 'file')} so far…`);
  });
  const key = session.seed && await keys.nameKey(await keys.bucketKey(session.seed, id));
  contents.set(id, {files: await named(rows, 'filename', key), isCut});
}

// -- places --------------------------------------------------------------------------------------

/** Put the focus to the beginning of the list; on a touch screen the search would open the keyboard. */
function focusList() {
  if (!matchMedia('(pointer: coarse)').matches) byId('search').focus();
  else byId('crumbs').focus();
}

function go(bucket, folder = '') {
  history.pushState({folder}, '', bucket ? `#buckets/${bucket}` : '#buckets');
  byId('search').value = '';
  focusList();
  show(bucket, folder);
}

function crumb(label, act) {
  return make('li', {}, act
    ? make('button', {type: 'button', class: 'crumb', onclick: act}, label)
    : make('span', {'aria-current': 'page', class: 'name'}, label));
}

function showCrumbs(bucket) {
  const names = place.folder.split('/').slice(0, -1);
  const steps = [['Buckets', () => go('')]];
  if (bucket) steps.push([bucket.name, () => go(bucket.id)]);
  names.forEach((name, index) => steps.push(
    [name || '/', () => go(bucket.id, `${names.slice(0, index + 1).join('/')}/`)]));
  const last = steps.length - 1;
  byId('crumbs').replaceChildren(...steps.map(([label, act], index) =>
    crumb(label, index < last && act)));
}

/** Show a bucket and a folder in it, or the list of buckets. */
export async function show(bucket = '', folder = '') {
  place = {bucket, folder};
  const isIn = session.authorized !== null;
  byId('sign-in').hidden = isIn;
  byId('browse').hidden = !isIn;
  if (!isIn) return;
  byId('user').textContent = session.email;
  byId('key-form').hidden = session.seed !== null;
  byId('key-forget').hidden = session.seed === null;
  const turn = asked += 1;
  table.clear(bucket ? 'Loading the files…' : 'Loading the buckets…');
  showCrumbs(null);
  try {
    if (!buckets) await loadBuckets();
    if (turn !== asked) return;
    const chosen = buckets.find((row) => row.id === bucket);
    if (bucket && !chosen) throw new ApiError('This account has no such bucket.');
    showCrumbs(chosen);
    if (bucket && !contents.has(bucket)) await loadFiles(bucket);
    if (turn !== asked) return;
    if (bucket) table.showFiles(chosen, folder, contents.get(bucket), (path) => go(bucket, path));
    else table.showBuckets(buckets, go);
  } catch (error) {
    if (turn !== asked) return;
    if (error.status === 401) leave('The bridge does not accept the stored login any more.');
    else table.clear(error.message, true);
  }
}

function refresh() {
  buckets = null;
  contents.clear();
  return show(place.bucket, place.folder);
}

// -- sign in, encryption key ---------------------------------------------------------------------

async function submitLogin(event) {
  event.preventDefault();
  const error = byId('sign-in-error');
  const password = byId('password');
  const email = byId('email').value.trim().toLowerCase();
  error.textContent = '';
  if (!email || !password.value) {
    error.textContent = 'Enter both e-mail and password.';
    return;
  }
  const button = byId('sign-in-button');
  button.disabled = true;
  try {
    const {rows} = await signIn(email, password.value, byId('stay').checked);
    await nameBuckets(rows);
    password.value = '';
    await show(place.bucket, place.folder);
    if (session.seed) focusList();
    else byId('key').focus();
  } catch (failure) {
    error.textContent = failure.status === 401
      ? 'The bridge does not know this e-mail and password.' : failure.message;
    password.focus();
  } finally {
    button.disabled = false;
  }
}

/** Refuse an encryption key that opens none of the encrypted names. */
async function check(seed) {
  const texts = buckets.filter((row) => !row.isOpen).map((row) => row.path);
  const key = await keys.bucketNameKey(seed);
  const opened = await Promise.all(texts.map((text) => keys.decryptName(key, text)));
  if (texts.length && opened.every((name) => name === null)) {
    throw new ApiError('This key opens none of the names in this account.');
  }
}

async function submitKey(event) {
  event.preventDefault();
  const field = byId('key');
  const error = byId('key-error');
  error.textContent = '';
  if (!field.value.trim()) {
    error.textContent = 'Enter the encryption key, 12 or 24 words as a rule.';
    return;
  }
  try {
    if (!canDecrypt()) throw new ApiError('Browsers decrypt only on https pages and on this machine.');
    await useKey(field.value, byId('key-keep').checked, check);
    field.value = '';
    await refresh();
    focusList();
  } catch (failure) {
    error.textContent = failure.message;
    field.focus();
  }
}

function leave(reason = '') {
  signOut();
  buckets = null;
  contents.clear();
  table.forget();
  byId('sign-in-error').textContent = reason;
  show();
  byId('email').focus();
}

export async function start() {
  byId('sign-in').addEventListener('submit', submitLogin);
  byId('key-form').addEventListener('submit', submitKey);
  byId('sign-out').addEventListener('click', () => leave());
  byId('refresh').addEventListener('click', refresh);
  byId('key-forget').addEventListener('click', () => {
    forgetKey();
    table.forget();
    refresh();
  });
  table.start();
  await resume();
}
