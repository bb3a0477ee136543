// The page's beginning: views, theme, share links.

import * as account from './account.js';
import * as buckets from './buckets.js';
import * as details from './details.js';
import {byId, notice} from './dom.js';
import * as downloads from './downloads.js';
import * as history from './history.js';
import * as network from './network.js';
import * as shared from './shared.js';
import {getTheme, setTheme} from './store.js';
import * as uploads from './uploads.js';

const THEMES = ['system', 'light', 'dark'];
const TITLES = {files: 'MetaDisk', buckets: 'Buckets · MetaDisk', network: 'Network · MetaDisk'};

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

/** Show the view that the address names. A share link stays there, so that reloading keeps the file. */
function route() {
  const fragment = location.hash.slice(1);
  const [name, id] = fragment.split('/');
  const view = name in TITLES ? name : 'files';
  for (const section of document.querySelectorAll('[data-view]')) {
    section.hidden = section.dataset.view !== view;
  }
  for (const link of document.querySelectorAll('[data-view-link]')) {
    if (link.dataset.viewLink === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = TITLES[view];
  network.watch(view === 'network');
  if (view === 'buckets') buckets.show(id, window.history.state?.folder);
  shared.show(fragment);
}

function warn(event) {
  if (uploads.isBusy() || downloads.isBusy() || history.isUnsaved()) event.preventDefault();
}

/** The address stays as it is: it may be a share link. */
function skip(event) {
  event.preventDefault();
  byId('main').focus();
}

byId('theme').addEventListener('click', nextTheme);
byId('skip').addEventListener('click', skip);
addEventListener('popstate', route);
addEventListener('beforeunload', warn);
showTheme();
history.start();
uploads.start();
details.start();
buckets.start().then(route);
account.start().catch((error) => notice(error.message, 'bad'));
