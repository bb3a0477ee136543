// The file that a share link in the address stands for: one of the node, or one of a bucket that
// `storj share --with-key` made a link to. Everything in a link may come from anybody.

import * as api from './api.js';
import * as bridge from './bridge.js';
import {parseReference} from './convergent.js';
import {fromHex} from './ctr.js';
import {byId, make, notice} from './dom.js';
import {downloader, readStored} from './downloads.js';
import {bytes} from './format.js';
import * as history from './history.js';
import {read} from './remote.js';

const SCHEME = 'storj-share:';
const VERSION = 1;
const LONGEST = 256 * 1024;
const isText = (value) => typeof value === 'string';
const isId = (value) => isText(value) && /^[0-9a-f]{24}$/.test(value);

/** The content of a link of `storj share`; null if it is damaged. */
function parseShare(fragment) {
  try {
    if (fragment.length > LONGEST) return null;
    const text = atob(fragment.slice(SCHEME.length).replace(/-/g, '+').replace(/_/g, '/'));
    const bytesOf = Uint8Array.from(text, (sign) => sign.charCodeAt(0));
    const share = JSON.parse(new TextDecoder().decode(bytesOf));
    const isRight = share.v === VERSION && isId(share.bucket) && isId(share.file)
      && isText(share.name) && Number.isSafeInteger(share.size) && share.size >= 0
      && Array.isArray(share.tokens) && share.tokens.every(isText)
      && typeof share.entry === 'object' && Number.isFinite(share.expires)
      && (share.key === undefined || /^[0-9a-f]{96}$/.test(share.key));
    return isRight ? share : null;
  } catch {
    return null;
  }
}

/** What a link of `storj share` is good for, as `show` draws it. */
function sharedOfBucket(fragment) {
  const share = parseShare(fragment);
  if (!share) throw new Error('The link is damaged. Copy the whole link again.');
  if (1000 * share.expires <= Date.now()) throw new Error('The link has expired. Ask for a new one.');
  if (!share.key) throw new Error('The link has no key: its owner makes one by storj share --with-key.');
  const content = fromHex(share.key);
  const source = bridge.sharedFile(share);
  const keyOf = () => ({key: content.subarray(0, 32), counter: content.subarray(32)});
  return {
    file: share,
    read: (sink, signal, onProgress) => read(source, keyOf, sink, signal, onProgress),
  };
}

async function sharedOfNode(fragment) {
  const file = await api.lookUp(parseReference(fragment));
  const keep = make('button', {
    type: 'button', class: 'quiet',
    onclick: () => {
      history.add(file);
      location.hash = '#files';
      notice('Added to your files');
    },
  }, 'Add to your files');
  return {file, read: readStored(file), keep};
}

/** Show the file of a share link above everything else; another fragment hides the card. */
export async function show(fragment) {
  const card = byId('shared');
  const isShare = fragment.startsWith(SCHEME);
  card.hidden = !isShare && !parseReference(fragment);
  card.replaceChildren();
  if (card.hidden) return;
  const title = make('h2', {id: 'shared-title', tabindex: '-1'}, 'Shared with you');
  card.append(title, make('p', {class: 'muted', role: 'status'}, 'Looking up the file…'));
  title.focus();
  const dismiss = make('a', {class: 'button quiet', href: '#files'}, 'Dismiss');
  let content;
  try {
    const found = await (isShare ? sharedOfBucket : sharedOfNode)(fragment);
    const {button, state} = downloader(found.file, found.read,
      {idle: 'Your browser decrypts the file; the node never sees the key.'});
    content = [
      make('p', {class: 'row-text'},
        make('strong', {class: 'name'}, found.file.name),
        make('span', {class: 'muted small size'}, bytes(found.file.size))),
      state,
      make('div', {class: 'buttons'}, button, found.keep, dismiss)];
  } catch (error) {
    content = [make('p', {class: 'bad', role: 'alert'}, error.message),
      make('div', {class: 'buttons'}, dismiss)];
  }
  // Another link may have been opened meanwhile.
  if (title.isConnected) card.replaceChildren(title, ...content);
}
