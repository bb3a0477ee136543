// The files that this browser remembers, and what one can do with each; links that others share.

import * as account from './account.js';
import * as api from './api.js';
import * as convergent from './convergent.js';
import {byId, copy, make, notice} from './dom.js';
import {bytes, percent, plural} from './format.js';
import {forget, getHistory, getToken, remember} from './store.js';

const PER_PAGE = 10;
// The check needs the whole file in memory at once.
const LARGEST = 1024 ** 3;
const NAME_PREFIX = /^[0-9a-f]{7}_/;

let page = 0;

/** Download, prove, decrypt and save a file; `say` is told how far it is. */
async function download(file, say) {
  if (!convergent.canDecrypt()) {
    throw new convergent.ReadError('Browsers decrypt on https and on this machine only. '
      + 'Use storj metadisk download.');
  }
  if (file.size > LARGEST) {
    throw new convergent.ReadError(`More than ${bytes(LARGEST)} is too much for a browser. `
      + 'Use storj metadisk download.');
  }
  say('Fetching');
  const sealed = await api.ciphertext(file.hash, getToken(), LARGEST,
    (share) => say(`Fetching, ${percent(share)}`));
  say('Checking and decrypting');
  const plaintext = await convergent.open(sealed, file);
  const link = make('a', {
    href: URL.createObjectURL(new Blob([plaintext], {type: 'application/octet-stream'})),
    download: file.name,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  account.showBalance();
}

/** A download button with its state beside it. */
function downloader(file, state, label = 'Download') {
  const button = make('button', {type: 'button', 'aria-label': `${label} ${file.name}`}, label);
  button.addEventListener('click', async () => {
    button.disabled = true;
    state.setAttribute('role', 'status');
    state.className = 'state muted small';
    try {
      await download(file, (text) => { state.textContent = text; });
      state.textContent = 'Decrypted and checked';
    } catch (error) {
      state.setAttribute('role', 'alert');
      state.className = 'state bad small';
      state.textContent = error.message;
    }
    button.disabled = false;
  });
  return button;
}

function row(file) {
  const state = make('span', {class: 'state muted small'});
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
      downloader(file, state),
      quiet('Copy link', () => copy(api.shareLink(file), 'Link')),
      quiet('Copy hash and key', () => copy(`${file.hash}?key=${file.key}`, 'Hash and key')),
      quiet('Remove', () => {
        forget(file.hash);
        show();
        notice(`${file.name} removed from this list. The network keeps it.`);
        byId('add-reference').focus();
      })));
}

export function show() {
  const files = getHistory();
  const count = Math.max(1, Math.ceil(files.length / PER_PAGE));
  page = Math.min(page, count - 1);
  byId('history').replaceChildren(
    ...files.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(row));
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
    refuse('That is no link of a file, nor hash?key=key with 64 digits each.');
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
  card.replaceChildren(title, make('p', {class: 'muted', role: 'status'}, 'Looking it up…'));
  title.focus();
  const close = () => { card.hidden = true; card.replaceChildren(); };
  const dismiss = make('button', {type: 'button', class: 'quiet', onclick: close}, 'Dismiss');
  try {
    const file = await lookUp(reference);
    const state = make('span', {class: 'state muted small'},
      'Decrypted in this browser; the node does not learn the key.');
    card.replaceChildren(title,
      make('p', {class: 'row-text'},
        make('strong', {class: 'name'}, file.name),
        make('span', {class: 'muted small'}, bytes(file.size)),
        make('code', {class: 'hash', title: file.hash}, `${file.hash.slice(0, 16)}…`)),
      state,
      make('div', {class: 'buttons'},
        downloader(file, state),
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
