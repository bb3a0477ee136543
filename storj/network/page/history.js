// The files that this browser remembers, and what one can do with each; links that others share.

import * as api from './api.js';
import * as convergent from './convergent.js';
import {byId, copy, make, notice} from './dom.js';
import {downloader} from './downloads.js';
import {bytes, plural} from './format.js';
import {forget, getHistory, remember} from './store.js';

const PER_PAGE = 10;
const NAME_PREFIX = /^[0-9a-f]{7}_/;

let page = 0;
// By filehash. A row is made once: a download under way in it outlives a change of the list.
const rows = new Map();

function makeRow(file) {
  const {button, state} = downloader(file);
  const quiet = (label, act) => make('button', {
    type: 'button', class: 'quiet', 'aria-label': `${label}: ${file.name}`, onclick: act,
  }, label);
  return make('li', {class: 'row'},
    make('div', {class: 'row-text'},
      make('span', {class: 'name'}, file.name),
      make('span', {class: 'muted small'}, bytes(file.size)),
      make('code', {class: 'hash', title: file.hash}, `${file.hash.slice(0, 16)}…`)),
    state,
    make('div', {class: 'buttons'},
      button,
      quiet('Copy link', () => copy(api.shareLink(file), 'Link')),
      quiet('Copy reference', () => copy(`${file.hash}?key=${file.key}`, 'Reference')),
      make('a', {
        class: 'button quiet', href: `#network/${file.hash}`, 'aria-label': `Shards: ${file.name}`,
      }, 'Shards'),
      quiet('Remove', () => {
        forget(file.hash);
        rows.delete(file.hash);
        show();
        notice(`${file.name} removed from this list. The network keeps it.`);
        byId('add-reference').focus();
      })));
}

function rowOf(file) {
  const row = rows.get(file.hash) ?? makeRow(file);
  rows.set(file.hash, row);
  return row;
}

export function show() {
  const files = getHistory();
  const count = Math.max(1, Math.ceil(files.length / PER_PAGE));
  page = Math.min(page, count - 1);
  byId('history').replaceChildren(
    ...files.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(rowOf));
  byId('history').hidden = !files.length;
  byId('history-empty').hidden = files.length > 0;
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

/** Ask the node for a reference's name and size. */
async function lookUp({hash, key}) {
  const found = await api.find(hash);
  return {name: found.filename.replace(NAME_PREFIX, ''), hash, key, size: found.filesize};
}

async function add(event) {
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
    refuse('This is not a link to a file, and not hash?key=key with 64 digits each.');
    return;
  }
  try {
    remember(await lookUp(reference));
    field.value = '';
    page = 0;
    show();
    notice('Added to your files');
  } catch (failure) {
    refuse(failure.message);
  }
}

/** Show the file of a share link above everything else. */
export async function showShared(reference) {
  const card = byId('shared');
  const title = make('h2', {id: 'shared-title', tabindex: '-1'}, 'Shared with you');
  card.hidden = false;
  card.replaceChildren(title, make('p', {class: 'muted', role: 'status'}, 'Looking up the file…'));
  title.focus();
  const close = () => { card.hidden = true; card.replaceChildren(); };
  const dismiss = make('button', {type: 'button', class: 'quiet', onclick: close}, 'Dismiss');
  try {
    const file = await lookUp(reference);
    const {button, state} = downloader(
      file, 'Checked and decrypted in this browser; the node does not see the key.');
    card.replaceChildren(title,
      make('p', {class: 'row-text'},
        make('strong', {class: 'name'}, file.name),
        make('span', {class: 'muted small'}, bytes(file.size)),
        make('code', {class: 'hash', title: file.hash}, `${file.hash.slice(0, 16)}…`)),
      state,
      make('div', {class: 'buttons'},
        button,
        make('button', {
          type: 'button', class: 'quiet',
          onclick: () => { remember(file); page = 0; show(); close(); notice('Added to your files'); },
        }, 'Add to your files'),
        dismiss));
  } catch (error) {
    card.replaceChildren(title, make('p', {class: 'bad', role: 'alert'}, error.message),
      make('div', {class: 'buttons'}, dismiss));
  }
}

export function start() {
  byId('add').addEventListener('submit', add);
  show();
}
