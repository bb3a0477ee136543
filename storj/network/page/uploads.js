// Uploading: a row, a bar and an error state for each file, a few of them under way at a time.

import * as account from './account.js';
import * as api from './api.js';
import {byId, make, notice} from './dom.js';
import {bytes, plural} from './format.js';
import * as history from './history.js';
import {Rate} from './rate.js';

const PARALLEL = 3;

const uploads = new Set();
const waiting = [];
let running = 0;

/** Whether files are on their way or wait for it. */
export const isBusy = () => running > 0 || waiting.length > 0;

// Of those that were given since the last pause.
let stored = 0;

/** Say how many files are through, once there are several or one has failed. */
function summarise() {
  const count = stored + uploads.size;
  const failed = [...uploads].filter(({row}) => row.dataset.state === 'failed').length;
  byId('uploads').hidden = !uploads.size;
  byId('uploads-summary').textContent = count > 1
    ? `${stored} of ${plural(count, 'file')} stored${failed ? `, ${failed} failed` : ''}`
    : stored ? '1 file stored' : '';
}

/** One file and its row. */
class Upload {
  constructor(file) {
    this.file = file;
    this.bar = make('progress', {max: 1, value: 0, 'aria-label': `Upload of ${file.name}`});
    this.told = make('span', {role: 'status'});
    // For the eye; the bar tells others.
    this.pace = make('span', {'aria-hidden': 'true'});
    this.state = make('span', {class: 'state small'}, this.told, this.pace);
    this.buttons = make('div', {class: 'buttons'});
    this.row = make('li', {class: 'row', 'data-state': 'waiting'},
      make('div', {class: 'row-text'},
        make('span', {class: 'name'}, file.name),
        make('span', {class: 'muted small size'}, bytes(file.size))),
      this.bar, this.state, this.buttons);
    if (!isBusy() && !uploads.size) stored = 0;
    byId('uploads').append(this.row);
    uploads.add(this);
    this.queue();
  }

  show(state, text, ...buttons) {
    this.row.dataset.state = state;
    this.told.textContent = text;
    this.told.setAttribute('role', state === 'failed' ? 'alert' : 'status');
    this.pace.textContent = '';
    this.bar.hidden = state !== 'running';
    this.buttons.replaceChildren(...buttons.map(([label, act, what]) =>
      make('button', {
        type: 'button', class: 'quiet', 'aria-label': `${label}: ${what ?? this.file.name}`,
        onclick: act,
      }, label)));
    summarise();
  }

  queue() {
    if (this.file.size > account.largest) {
      this.show('failed', `Larger than the ${bytes(account.largest)} that the node accepts.`,
        ['Dismiss', () => this.dismiss()]);
      return;
    }
    this.bar.value = 0;
    this.show('waiting', 'Waiting', ['Cancel', () => this.cancel()]);
    waiting.push(this);
    next();
  }

  cancel() {
    const place = waiting.indexOf(this);
    if (place >= 0) {
      waiting.splice(place, 1);
      this.fail('Cancelled.');
    } else {
      this.request?.abort();
    }
  }

  fail(text) {
    this.show('failed', text,
      ['Retry', () => this.queue()], ['Dismiss', () => this.dismiss()]);
  }

  remove() {
    this.row.remove();
    uploads.delete(this);
  }

  dismiss() {
    this.remove();
    summarise();
    byId('picker').focus();
  }

  progress(sent) {
    if (sent < this.file.size) {
      this.bar.value = sent / this.file.size;
      this.pace.textContent = this.rate.update(sent);
    } else {
      // The bytes are at the node; now it brings them to the farmers, for which there is no measure.
      this.bar.removeAttribute('value');
      this.told.textContent = 'Storing on farmers';
      this.pace.textContent = '';
    }
  }

  async run() {
    this.show('running', 'Uploading', ['Cancel', () => this.cancel()]);
    this.rate = new Rate(this.file.size);
    try {
      const token = await account.token();
      this.request = api.upload(this.file, token, (sent) => this.progress(sent));
      const {filehash, key} = await this.request.done;
      stored += 1;
      this.remove();
      history.add({name: this.file.name, hash: filehash, key, size: this.file.size}, true);
      summarise();
    } catch (error) {
      this.fail(error.message);
    }
  }
}

async function next() {
  if (running >= PARALLEL || !waiting.length) return;
  const upload = waiting.shift();
  running += 1;
  await upload.run();
  running -= 1;
  if (!running && !waiting.length) account.showBalance();
  account.showNode();
  next();
}

function take(files) {
  for (const file of files) new Upload(file);
}

/** The files of a drop, without its folders. */
function dropped(transfer) {
  const files = [];
  for (const item of transfer.items) {
    if (item.kind !== 'file') continue;
    if (item.webkitGetAsEntry?.()?.isDirectory) {
      notice('Folders cannot be uploaded; drop the files in them.', 'bad');
    } else {
      files.push(item.getAsFile());
    }
  }
  return files;
}

export function start() {
  const picker = byId('picker');
  picker.addEventListener('change', () => {
    take(picker.files);
    picker.value = '';
  });
  // Anywhere on the page: a file that misses the field must not replace the page.
  const bringsFiles = (event) => event.dataTransfer?.types.includes('Files');
  let depth = 0;
  const mark = (by) => {
    depth = Math.max(0, depth + by);
    document.body.classList.toggle('dragging', depth > 0);
  };
  document.addEventListener('dragenter', (event) => bringsFiles(event) && mark(1));
  document.addEventListener('dragleave', (event) => bringsFiles(event) && mark(-1));
  document.addEventListener('dragover', (event) => bringsFiles(event) && event.preventDefault());
  document.addEventListener('drop', (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    if (byId('picker').closest('[hidden]')) location.hash = '#files';
    take(dropped(event.dataTransfer));
  });
}
