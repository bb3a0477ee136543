// Downloading: fetched, checked and decrypted piece by piece, straight to the disk where the
// browser lets a page write there.

import * as account from './account.js';
import * as api from './api.js';
import * as convergent from './convergent.js';
import {canDecrypt} from './ctr.js';
import {make} from './dom.js';
import {bytes} from './format.js';
import {Rate} from './rate.js';
import {getToken} from './store.js';

/** Bytes of a file that is gathered in memory anyway, and of one that is where nothing else works. */
export const limits = {small: 64 * 1024 ** 2, largest: 1024 ** 3};

const LINK_LIFE = 60000;

let running = 0;

/** Whether files are on their way. */
export const isBusy = () => running > 0;

/** The user has closed the dialog that asks where to save. */
class Cancelled extends Error {}

/** Collects a file in memory, and saves it as a browser's download in the end. */
class Memory {
  constructor(name) {
    this.name = name;
  }

  begin() {
    this.pieces = [];
  }

  write(piece) {
    // As blobs, which browsers may keep on the disk.
    this.pieces.push(new Blob([piece]));
  }

  finish() {
    const blob = new Blob(this.pieces, {type: 'application/octet-stream'});
    const link = make('a', {href: URL.createObjectURL(blob), download: this.name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), LINK_LIFE);
    return 'Checked and decrypted';
  }

  discard() {
    this.pieces = [];
  }
}

/** Writes to a file that the user has chosen, which changes only when all of it is right. */
class Disk {
  constructor(handle) {
    this.handle = handle;
  }

  async begin() {
    await this.writer?.abort();
    this.writer = await this.handle.createWritable();
  }

  async write(piece) {
    try {
      await this.writer.write(piece);
    } catch (error) {
      throw new convergent.ReadError(error.name === 'QuotaExceededError'
        ? 'The disk is full.' : `The file could not be written: ${error.message}`);
    }
  }

  async finish() {
    await this.writer.close();
    return `Checked, decrypted and saved as ${this.handle.name}`;
  }

  async discard() {
    try {
      await this.writer?.abort();
      // Choosing a new name has made an empty file of it; one that was there before stays.
      if (!(await this.handle.getFile()).size) await this.handle.remove?.();
    } catch {
      // What failed first is what one wants to know; nothing of it is under the name anyway.
    }
  }
}

/** Choose where a file goes; a browser asks its user only while a click is fresh. */
async function sinkFor(file) {
  if (!canDecrypt()) {
    throw new convergent.ReadError('Browsers decrypt only on https pages and on this machine. '
      + 'Use the command storj.');
  }
  if (file.size <= limits.small) return new Memory(file.name);
  if (globalThis.showSaveFilePicker) {
    try {
      return new Disk(await showSaveFilePicker({suggestedName: file.name}));
    } catch (error) {
      if (error.name === 'AbortError') throw new Cancelled();
      throw error;
    }
  }
  if (file.size <= limits.largest) return new Memory(file.name);
  throw new convergent.ReadError(`This browser cannot write more than ${bytes(limits.largest)} to the `
    + 'disk piece by piece. Use Chrome or Edge, or the command storj.');
}

/** Read a file of the node, `{hash, key, size}`, for a downloader. */
export const readStored = (file) => async (sink, signal, onProgress) => {
  async function* fetched() {
    let received = 0;
    onProgress(received);
    for await (const piece of api.ciphertext(file.hash, getToken(), signal)) {
      received += piece.length;
      onProgress(received);
      yield piece;
    }
  }
  try {
    await convergent.open(fetched, file, sink);
  } finally {
    account.showBalance();
  }
};

/** Read and save a file; nothing of it is left if it fails. */
async function download(file, read, signal, onProgress) {
  const sink = await sinkFor(file);
  try {
    await read(sink, signal, onProgress);
    return await sink.finish();
  } catch (error) {
    await sink.discard();
    throw error;
  }
}

/**
 * A download button, and the line that tells how far it is and how it ended.
 *
 * `read(sink, signal, onProgress)` reads the file, `{name, size}`, into a sink, proved and
 * decrypted; `onProgress` gets the bytes that have come. `face(words)` is what the button shows.
 */
export function downloader(file, read, {idle = '', face = (words) => words} = {}) {
  const bar = make('progress', {max: 1, value: 0, 'aria-label': `Download of ${file.name}`});
  const text = make('span', {role: 'status'});
  // For the eye; the bar tells others.
  const pace = make('span', {'aria-hidden': 'true'});
  const state = make('div', {class: 'state small'}, bar, text, pace);
  const button = make('button', {type: 'button'});
  let control = null;

  const show = (kind, words) => {
    state.dataset.state = kind;
    text.textContent = words;
    pace.textContent = '';
    text.setAttribute('role', kind === 'failed' ? 'alert' : 'status');
    bar.hidden = kind !== 'running';
    state.hidden = !words;
    const label = kind === 'running' ? 'Cancel' : 'Download';
    button.replaceChildren(face(label));
    button.classList.toggle('quiet', kind === 'running');
    button.title = label;
    button.setAttribute('aria-label', `${label} ${file.name}`);
  };

  const run = async () => {
    control = new AbortController();
    running += 1;
    const rate = new Rate(file.size);
    try {
      show('done', await download(file, read, control.signal, (received) => {
        if (bar.hidden) show('running', 'Downloading');
        bar.value = file.size ? Math.min(1, received / file.size) : 1;
        pace.textContent = rate.update(received);
      }));
    } catch (error) {
      if (error instanceof Cancelled) show('idle', idle);
      else show('failed', error.message);
    }
    running -= 1;
    control = null;
  };

  show('idle', idle);
  button.addEventListener('click', () => (control ? control.abort() : run()));
  return {button, state};
}
