// The state of the node and, where it charges, the token that pays and its balance.

import * as api from './api.js';
import {byId, copy, facts, notice} from './dom.js';
import {bytes, plural} from './format.js';
import {getToken, setToken} from './store.js';

const REFRESH = 5000;

/** The largest file that the node takes, in bytes; unknown is Infinity. */
export let largest = Infinity;

// Null until the node has said it.
let charging = null;

/** The token of this browser, a new one when there is none; empty if the node does not charge. */
export async function token() {
  if (charging === null) await showAccount();
  if (!charging) return '';
  if (!getToken()) use(await api.newToken());
  return getToken();
}

function use(text) {
  setToken(text);
  byId('token').value = text;
}

export async function showBalance() {
  if (!charging) return;
  try {
    byId('balance').textContent = bytes(await api.balance(await token()));
    byId('balance').title = '';
  } catch (error) {
    byId('balance').textContent = 'unknown';
    byId('balance').title = error.message;
  }
}

async function showAccount() {
  ({charging} = await api.node());
  byId('account').hidden = !charging;
  if (!charging) return;
  const rows = await api.prices();
  byId('prices').textContent = rows
    .map(({amount, cost}) => `${bytes(amount)} for $${(cost / 100).toFixed(2)}`).join(' · ');
  await showBalance();
}

const limited = (used, limit) => limit ? `${bytes(used)} of ${bytes(limit)}` : bytes(used);

export async function showNode() {
  const state = byId('node-state');
  let node;
  try {
    node = await api.status();
  } catch (error) {
    state.textContent = 'unreachable';
    state.className = 'badge bad';
    state.title = error.message;
    return;
  }
  state.textContent = 'running';
  state.className = 'badge good';
  const {bandwidth, storage, sync} = node;
  largest = storage.max_file_size || Infinity;
  byId('upload-limit').textContent = `Up to ${bytes(storage.max_file_size)} each`;
  const rows = [
    ['Received this month', limited(bandwidth.current.incoming, bandwidth.limits.incoming)],
    ['Sent this month', limited(bandwidth.current.outgoing, bandwidth.limits.outgoing)],
    ['Largest file', bytes(storage.max_file_size)],
  ];
  if (sync?.cloud_queue?.count) {
    rows.push(['Waiting for farmers', plural(sync.cloud_queue.count, 'file')]);
  }
  facts(byId('node-facts'), rows);
  byId('node-storage').value = storage.capacity ? storage.used / storage.capacity : 0;
  byId('node-storage-text').textContent = `${bytes(storage.used)} of ${bytes(storage.capacity)}`;
}

async function submitToken(event) {
  event.preventDefault();
  const text = byId('token').value.trim();
  if (!text) return;
  use(text);
  notice('Token in use');
  await showBalance();
}

async function redeem(event) {
  event.preventDefault();
  const field = byId('promocode');
  const error = byId('redeem-error');
  error.textContent = '';
  try {
    await api.redeem(await token(), field.value.trim());
    field.value = '';
    notice('Redeemed');
  } catch (failure) {
    error.textContent = failure.status === 403
      ? 'The code does not exist, or this token has used it already.' : failure.message;
    field.focus();
  }
  await showBalance();
}

async function renew() {
  try {
    use(await api.newToken());
    notice('New token in use');
  } catch (error) {
    notice(error.message, 'bad');
  }
  await showBalance();
}

export async function start() {
  byId('token-form').addEventListener('submit', submitToken);
  byId('token-copy').addEventListener('click', () => copy(getToken(), 'Token'));
  byId('token-new').addEventListener('click', renew);
  byId('redeem').addEventListener('submit', redeem);
  byId('token').value = getToken();
  setInterval(() => document.hidden || showNode(), REFRESH);
  await Promise.all([showNode(), showAccount()]);
}
