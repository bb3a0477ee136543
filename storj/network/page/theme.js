// Loaded before the page is drawn, so that it never flashes in the other theme.
'use strict';

(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem('metadisk-theme');
  } catch {
    // Storage is switched off: the system's theme it is.
  }
  if (chosen === 'light' || chosen === 'dark') {
    document.documentElement.dataset.theme = chosen;
  }
})();
