// What this browser stores: the theme, the token of a node that charges and, where the person asks
// for it, the list of files, the login and the encryption key. Nothing else does it leave behind.

import {isHash} from './convergent.js';

const TOKEN = 'metadisk-token';
const HISTORY = 'metadisk-history';
const KEPT = 1000;

const memory = new Map();

function read(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return memory.get(name) ?? null;
  }
}

function write(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(name, value);
  } catch {
    // Switched off or full: it lasts as long as the page does.
  }
}

function remove(name) {
  memory.delete(name);
  try {
    localStorage.removeItem(name);
  } catch {
    // Switched off: nothing was stored.
  }
}

export const getToken = () => read(TOKEN) ?? '';
export const setToken = (token) => write(TOKEN, token);

export const getTheme = () => read('metadisk-theme') ?? 'system';
export const setTheme = (theme) => write('metadisk-theme', theme);

// Each stored only where the person says so; null otherwise.
const readRecord = (name) => {
  try {
    return JSON.parse(read(name));
  } catch {
    return null;
  }
};
const writeRecord = (name, record) =>
  (record === null ? remove(name) : write(name, JSON.stringify(record)));

/** The login, {email, authorized}, which stands for the password. */
export const getLogin = () => readRecord('storj-login');
export const setLogin = (login) => writeRecord('storj-login', login);

/** The encryption key. */
export const getKey = () => readRecord('storj-key');
export const setKey = (words) => writeRecord('storj-key', words);

const isFile = (row) => row && isHash(row.hash) && isHash(row.key)
  && typeof row.name === 'string' && Number.isFinite(row.size);

// The list of this page, which has the keys of its files: stored only where the person says so.
let files = [];

/** Whether the list of files is stored in this browser. */
export const isStored = () => read(HISTORY) !== null;

/** Store the list of files from now on, or delete what is stored. */
export function setStored(stored) {
  files = getHistory();
  writeRecord(HISTORY, stored ? files : null);
}

/** The files, newest first: {name, hash, key, size, added}. */
export function getHistory() {
  if (!isStored()) return files;
  const rows = readRecord(HISTORY);
  return Array.isArray(rows) ? rows.filter(isFile) : [];
}

function setHistory(rows) {
  files = rows;
  if (isStored()) writeRecord(HISTORY, rows);
}

/** Add a file as the newest; a file is in the list once. */
export function remember(file) {
  const others = getHistory().filter((row) => row.hash !== file.hash);
  setHistory([{...file, added: Date.now()}, ...others].slice(0, KEPT));
}

export const forget = (hash) => setHistory(getHistory().filter((row) => row.hash !== hash));
