// What this browser stores: the theme, the token of a node that charges, and the list of files if
// the person asks for it. Nothing of it leaves the browser.

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

const isFile = (row) => row && isHash(row.hash) && isHash(row.key)
  && typeof row.name === 'string' && Number.isFinite(row.size);

// The list of this page, which has the keys of its files: stored only where the person says so.
let files = [];

/** Whether the list of files is stored in this browser. */
export const isStored = () => read(HISTORY) !== null;

/** Store the list of files from now on, or delete what is stored. */
export function setStored(stored) {
  files = getHistory();
  if (stored) write(HISTORY, JSON.stringify(files));
  else remove(HISTORY);
}

/** The files, newest first: {name, hash, key, size, added}. */
export function getHistory() {
  if (!isStored()) return files;
  try {
    const rows = JSON.parse(read(HISTORY));
    return Array.isArray(rows) ? rows.filter(isFile) : [];
  } catch {
    return [];
  }
}

function setHistory(rows) {
  files = rows;
  if (isStored()) write(HISTORY, JSON.stringify(rows));
}

/** Add a file as the newest; a file is in the list once. */
export function remember(file) {
  const others = getHistory().filter((row) => row.hash !== file.hash);
  setHistory([{...file, added: Date.now()}, ...others].slice(0, KEPT));
}

export const forget = (hash) => setHistory(getHistory().filter((row) => row.hash !== hash));
