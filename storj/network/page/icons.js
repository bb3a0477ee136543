// Icons, drawn in lines of the colour of the text around them.

const SHEET = 'M6 2.5h6l4 4v11H6zM12 2.5v4h4';
const PATHS = {
  archive: `${SHEET}M9 9h2m-2 2.5h2M9 14h2`,
  audio: 'M8 14.5V5l8-2v9.5M8 14.5a2 2 0 1 1-4 0 2 2 0 0 1 4 0zm8-2a2 2 0 1 1-4 0 2 2 0 0 1 4 0z',
  bucket: 'M4 5.5 5.6 16a1.5 1.5 0 0 0 1.5 1.3h5.8a1.5 1.5 0 0 0 1.5-1.3L16 5.5'
    + 'M4 5.5a6 2 0 0 0 12 0 6 2 0 0 0-12 0z',
  cancel: 'M5.5 5.5l9 9m0-9-9 9',
  download: 'M10 3.5v9m-3.5-3.4L10 12.6l3.5-3.5M4 16.5h12',
  file: SHEET,
  folder: 'M2.5 15.5v-11h5l2 2.2h8v8.8z',
  image: 'M3 4h14v12H3zM3 13.5l4-4 3.5 3.5 2.5-2.5 4 4M12.8 7.5h.4',
  shards: 'M10 2.8 16.3 6.3v7.2L10 17.2 3.7 13.5V6.3zM3.7 6.3 10 10m0 0 6.3-3.7M10 10v7.2',
  table: 'M3 4h14v12H3zM3 8h14M3 12h14M8.5 4v12',
  text: `${SHEET}M8.5 10h5m-5 3h5`,
  video: 'M2.5 5h10v10h-10zM12.5 9l5-3v8l-5-3',
};

const SVG = 'http://www.w3.org/2000/svg';

/** An icon by its name; what it means must stand beside it, or in the name of its button. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, 'svg');
  drawing.setAttribute('viewBox', '0 0 20 20');
  drawing.setAttribute('class', `icon ${name}`);
  drawing.setAttribute('aria-hidden', 'true');
  drawing.setAttribute('focusable', 'false');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  drawing.append(path);
  return drawing;
}
