// The list of uploaded and added files, and what one can do with each.

import * as api from './api.js';
import * as convergent from './convergent.js';
import * as details from './details.js';
import {byId, copy, make, notice} from './dom.js';
import {downloader, readStored} from './downloads.js';
import {bytes, plural} from './format.js';
import * as store from './store.js';

const PER_PAGE = 10;

let page = 0;
// By filehash. A row is made once: a download under way in it outlives a change of the list.
const rows = new Map();
// Uploads of this page whose link nobody has copied yet.
const unsaved = new Set();

async function copyLink(file) {
  await copy(api.shareLink(file), 'Link');
  unsaved.delete(file.hash);
}

function makeRow(file, idle) {
  const {button, state} = downloader(file, readStored(file), {idle});
  const quiet = (label, act) => make('button', {
    type: 'button', class: 'quiet', 'aria-label': `${label}: ${file.name}`, onclick: act,
  }, label);
  return make('li', {class: 'row'},
    make('div', {class: 'row-text'},
      make('span', {class: 'name'}, file.name),
      make('span', {class: 'muted small size'}, bytes(file.size)),
      make('code', {class: 'hash', title: file.hash}, `${file.hash.slice(0, 16)}…`)),
    state,
    make('div', {class: 'buttons'},
      button,
      quiet('Copy link', () => copyLink(file)),
      quiet('Copy reference', () => copy(`${file.hash}?key=${file.key}`, 'Reference')),
      quiet('Shards', () => details.showStored(file)),
      quiet('Remove', () => {
        store.forget(file.hash);
        rows.delete(file.hash);
        unsaved.delete(file.hash);
        show();
        notice(`Removed ${file.name} from this list. The file stays on the network.`);
        byId('add-reference').focus();
      })));
}

function rowOf(file) {
  const row = rows.get(file.hash) ?? makeRow(file);
  rows.set(file.hash, row);
  return row;
}

/** Whether closing the page would lose the only key of an upload. */
export const isUnsaved = () => unsaved.size > 0 && !store.isStored();

/** Add a file to the top of the list. */
export function add(file, isUpload = false) {
  store.remember(file);
  if (isUpload) {
    unsaved.add(file.hash);
    rows.set(file.hash, rows.get(file.hash) ?? makeRow(file, 'Stored'));
  }
  page = 0;
  show();
}

function showStored() {
  const stored = store.isStored();
  byId('keep').checked = stored;
  byId('keep-note').textContent = stored
    ? 'This browser stores the list with the keys of the files: whoever uses it can open them.'
    : 'The list ends when you close or reload the page. Copy the links that you need later.';
}

function show() {
  const files = store.getHistory();
  const count = Math.max(1, Math.ceil(files.length / PER_PAGE));
  page = Math.min(page, count - 1);
  byId('history').replaceChildren(
    ...files.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(rowOf));
  byId('history').hidden = !files.length;
  byId('history-empty').hidden = files.length > 0;
  showStored();
  byId('history-count').textContent = files.length ? plural(files.length, 'file') : '';
  const pages = byId('pages');
  pages.hidden = count === 1;
  const turn = (label, to, name) => make('button', {
    type: 'button', class: 'quiet', disabled: to < 0 || to >= count, 'aria-label': name,
    'aria-current': to === page ? 'page' : null,
    onclick: () => { page = to; show(); pages.querySelector('[aria-current]').focus(); },
  }, label);
  pages.replaceChildren(
    turn('‹', page - 1, 'Newer files'),
    ...Array.from({length: count}, (_, number) =>
      turn(String(number + 1), number, `Page ${number + 1}`)),
    turn('›', page + 1, 'Older files'));
}

async function addReference(event) {
  event.preventDefault();
  const field = byId('add-reference');
  const error = byId('add-error');
  const refuse = (text) => {
    error.textContent = text;
    field.setAttribute('aria-invalid', 'true');
    field.focus();
  };
  error.textContent = '';
  field.removeAttribute('aria-invalid');
  const reference = convergent.parseReference(field.value);
  if (!reference) {
    refuse('This is neither a link to a file nor a reference: 64 digits, ?key= and 64 digits.');
    return;
  }
  try {
    add(await api.lookUp(reference));
    field.value = '';
    notice('Added to your files');
  } catch (failure) {
    refuse(failure.message);
  }
}

export function start() {
  byId('add').addEventListener('submit', addReference);
  byId('keep').addEventListener('change', (event) => {
    store.setStored(event.target.checked);
    showStored();
  });
  show();
}
