// The table of buckets or files: sorted by a column, searched, and what one can do with a row.

import * as bridge from './bridge.js';
import * as browse from './browse.js';
import * as details from './details.js';
import {byId, make} from './dom.js';
import {downloader} from './downloads.js';
import {bytes, day, plural} from './format.js';
import {icon} from './icons.js';
import {bucketKey, contentKey} from './keys.js';
import {read} from './remote.js';
import {session} from './session.js';

// Rows that are drawn at a time.
const PER_STEP = 200;

let order = {column: 'name', descending: false};
let shown = PER_STEP;
// Draws the present list again; empty until there is one.
let redraw = () => {};
// Download buttons by file id: a download under way outlives a change of the list.
const downloaders = new Map();

export const tell = (text) => { byId('browse-note').textContent = text; };

/** Empty the table and say why. */
export function clear(text, isError = false) {
  redraw = () => {};
  byId('rows').replaceChildren();
  byId('list').hidden = true;
  byId('more').hidden = true;
  byId('browse-count').textContent = '';
  byId('browse-note').className = isError ? 'empty bad' : 'empty';
  tell(text);
}

/** Forget all rows of an account. */
export function forget() {
  downloaders.clear();
  byId('search').value = '';
  clear('');
}

function downloaderOf(bucket, file) {
  const known = downloaders.get(file.id);
  if (known) return known;
  const readFile = async (sink, signal, onProgress) => {
    if (!session.seed) throw new Error('Enter the encryption key first.');
    const key = await bucketKey(session.seed, bucket.id);
    const source = bridge.ownFile(session.authorized, bucket.id, file.id);
    await read(source, (info) => contentKey(key, info), sink, signal, onProgress);
  };
  const name = file.path.split('/').filter(Boolean).pop() ?? file.id;
  const made = downloader({name, size: file.size}, readFile, {
    face: (label) => icon(label.toLowerCase()),
  });
  made.button.classList.add('tool');
  downloaders.set(file.id, made);
  return made;
}

function nameCell(kind, row, open, state) {
  const label = row.isOpen === false ? `Encrypted name ${row.id.slice(0, 8)}` : row.name;
  const under = [row.size === undefined ? null : bytes(row.size), row.created && day(row.created)];
  return make('td', {class: 'cell-name'}, make('div', {class: 'named'},
    icon(kind),
    make('div', {class: 'named-text'},
      open
        ? make('button', {type: 'button', class: 'link name', onclick: open}, label)
        : make('span', {class: row.isOpen === false ? 'muted name' : 'name', title: row.path}, label),
      make('span', {class: 'under muted small'}, under.filter(Boolean).join(' · ')),
      state)));
}

function rowOf(kind, row, open, state, ...buttons) {
  return make('tr', {},
    nameCell(kind, row, open, state),
    make('td', {class: 'cell-size size'}, row.size === undefined ? '' : bytes(row.size)),
    make('td', {class: 'cell-date'}, row.created
      ? make('time', {datetime: new Date(row.created).toISOString()}, day(row.created)) : ''),
    make('td', {class: 'cell-tools'}, ...buttons));
}

function fileRow(bucket, file) {
  const {button, state} = downloaderOf(bucket, file);
  const shards = make('button', {
    type: 'button', class: 'quiet tool', title: 'Shards', 'aria-label': `Shards: ${file.name}`,
    onclick: () => details.open(file, () =>
      bridge.mirrors(session.authorized, bucket.id, file.id)),
  }, icon('shards'));
  return rowOf(browse.kindOf(file.name), file, null, state, button, shards);
}

const folderRow = (row, open) =>
  rowOf('folder', row, () => open(row.folder), make('span', {class: 'unseen'}, plural(row.count, 'file')));

const bucketRow = (row, open) => rowOf('bucket', {...row, size: undefined}, () => open(row.id));

function draw(rows, makeRow, nothing) {
  const ordered = browse.sorted(rows, order);
  byId('list').hidden = !rows.length;
  byId('browse-note').className = 'empty';
  tell(rows.length ? '' : nothing);
  byId('rows').replaceChildren(...ordered.slice(0, shown).map(makeRow));
  const more = byId('more');
  more.hidden = ordered.length <= shown;
  more.textContent = `Show more (${ordered.length - shown})`;
  for (const head of document.querySelectorAll('#list [data-column]')) {
    const isIt = head.dataset.column === order.column;
    head.setAttribute('aria-sort', isIt ? (order.descending ? 'descending' : 'ascending') : 'none');
  }
}

function begin(drawRows) {
  shown = PER_STEP;
  redraw = drawRows;
  redraw();
}

const query = () => byId('search').value.trim();

/** Show buckets; `open(id)` goes to one. */
export function showBuckets(buckets, open) {
  byId('list').classList.add('of-buckets');
  byId('search').placeholder = 'Search buckets';
  begin(() => {
    const found = query() ? browse.matching(buckets, '', query()) : buckets;
    byId('browse-count').textContent = plural(buckets.length, 'bucket');
    draw(found, (row) => bucketRow(row, open), buckets.length
      ? `No bucket matches “${query()}”.` : 'No buckets yet. “storj mb NAME” makes one.');
  });
}

/** Show the files of a bucket in a folder; `open(path)` goes to another one. */
export function showFiles(bucket, folder, {files, isCut}, open) {
  byId('list').classList.remove('of-buckets');
  byId('search').placeholder = folder ? 'Search this folder' : 'Search this bucket';
  const inside = files.filter((file) => file.path.startsWith(folder));
  const size = inside.reduce((sum, file) => sum + file.size, 0);
  begin(() => {
    const found = query() ? browse.matching(inside, folder, query()) : browse.contentOf(inside, folder);
    byId('browse-count').textContent =
      `${plural(inside.length, 'file')}, ${bytes(size)}${isCut ? ' (the oldest only)' : ''}`;
    draw(found, (row) => (row.folder ? folderRow(row, open) : fileRow(bucket, row)), inside.length
      ? `No file matches “${query()}”.`
      : 'Nothing here yet. “storj cp FILE storj://BUCKET/” uploads a file.');
  });
}

function sortBy(column) {
  order = {column, descending: column === order.column ? !order.descending : column !== 'name'};
  redraw();
}

export function start() {
  for (const button of document.querySelectorAll('#list [data-column] button')) {
    button.addEventListener('click', () => sortBy(button.parentElement.dataset.column));
  }
  byId('search').addEventListener('input', () => {
    shown = PER_STEP;
    redraw();
  });
  byId('search').form.addEventListener('submit', (event) => event.preventDefault());
  byId('more').addEventListener('click', () => {
    shown += PER_STEP;
    redraw();
  });
}
