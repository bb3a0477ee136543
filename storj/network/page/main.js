// The page's beginning: views, theme, share links.

import * as account from './account.js';
import {isHash, parseReference} from './convergent.js';
import {byId, notice} from './dom.js';
import * as downloads from './downloads.js';
import * as history from './history.js';
import * as network from './network.js';
import {getTheme, setTheme} from './store.js';
import * as uploads from './uploads.js';

const THEMES = ['system', 'light', 'dark'];
const TITLES = {files: 'MetaDisk', network: 'Network · MetaDisk'};

function showTheme() {
  const theme = getTheme();
  const name = theme[0].toUpperCase() + theme.slice(1);
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId('theme-name').textContent = name;
  byId('theme').setAttribute('aria-label', `Theme: ${name}`);
}

function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(getTheme()) + 1) % THEMES.length]);
  showTheme();
}

/** Show the view that the address names; a share link's key leaves the address at once. */
function route() {
  const reference = parseReference(location.hash.slice(1));
  if (reference) {
    window.history.replaceState(null, '', '#files');
    history.showShared(reference);
  }
  const [name, hash] = location.hash.slice(1).split('/');
  const view = name === 'network' ? 'network' : 'files';
  for (const section of document.querySelectorAll('[data-view]')) {
    section.hidden = section.dataset.view !== view;
  }
  for (const link of document.querySelectorAll('[data-view-link]')) {
    if (link.dataset.viewLink === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = TITLES[view];
  network.watch(view === 'network');
  if (view === 'network' && isHash(hash)) network.showStored(hash);
}

function warn(event) {
  if (uploads.isBusy() || downloads.isBusy()) event.preventDefault();
}

byId('theme').addEventListener('click', nextTheme);
addEventListener('hashchange', route);
addEventListener('beforeunload', warn);
showTheme();
history.start();
uploads.start();
network.start();
route();
account.start().catch((error) => notice(error.message, 'bad'));
