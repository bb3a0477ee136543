// The status of one farmer, for its owner.

import {byId, facts} from './dom.js';
import {bytes} from './format.js';

const REFRESH = 2000;

function badge(text, kind) {
  const state = byId('state');
  // Only a change is worth saying.
  if (state.textContent !== text) state.textContent = text;
  state.className = `badge ${kind}`;
}

async function show() {
  let farmer;
  try {
    farmer = await (await fetch('status', {cache: 'no-store'})).json();
  } catch {
    badge('stopped', 'bad');
    return;
  }
  badge(farmer.registered ? 'known to the bridge' : 'waiting for the bridge',
    farmer.registered ? 'good' : 'warn');
  const count = (name) => farmer.counters[name] ?? 0;
  byId('space').hidden = !farmer.size;
  byId('space').value = farmer.size ? farmer.used / farmer.size : 0;
  byId('space-text').textContent = farmer.size
    ? `${bytes(farmer.used)} of ${bytes(farmer.size)} used`
    : `${bytes(farmer.used)} used, no limit set`;
  facts(byId('numbers'), [
    ['shards stored', String(farmer.shards)],
    ['audits answered', String(count('audits'))],
    ['received', bytes(count('bytes_received'))],
    ['sent', bytes(count('bytes_sent'))],
    ['transfers now', String(farmer.transfers)],
  ]);
  facts(byId('facts'), [
    ['Node', farmer.node_id],
    ['Address', `${farmer.address}:${farmer.port}`],
    ['Protocol', farmer.protocol],
    ['Folder', farmer.path],
    ...farmer.problems.map((problem) => ['Problem', problem]),
  ]);
}

show();
setInterval(() => document.hidden || show(), REFRESH);
