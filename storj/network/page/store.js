// What this browser stores: the token and the list of files. Nothing of it leaves the browser.

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

export const getToken = () => read(TOKEN) ?? '';
export const setToken = (token) => write(TOKEN, token);

export const getTheme = () => read('metadisk-theme') ?? 'system';
export const setTheme = (theme) => write('metadisk-theme', theme);

const isFile = (row) => row && isHash(row.hash) && isHash(row.key)
  && typeof row.name === 'string' && Number.isFinite(row.size);

/** The files, newest first: {name, hash, key, size, added}. */
export function getHistory() {
  try {
    const rows = JSON.parse(read(HISTORY) ?? '[]');
    return Array.isArray(rows) ? rows.filter(isFile) : [];
  } catch {
    return [];
  }
}

/** Remember a file as the newest; a file is in the list once. */
export function remember(file) {
  const others = getHistory().filter((row) => row.hash !== file.hash);
  write(HISTORY, JSON.stringify([{...file, added: Date.now()}, ...others].slice(0, KEPT)));
}

export const forget = (hash) =>
  write(HISTORY, JSON.stringify(getHistory().filter((row) => row.hash !== hash)));
