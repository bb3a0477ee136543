// Elements, texts and notices. Text from the network only ever becomes text nodes.

export const byId = (id) => document.getElementById(id);

/** Make an element: attributes by name, listeners as `onclick`, children as nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' && 'value' in element) element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A definition list's rows. */
export function facts(list, rows) {
  list.replaceChildren(...rows.map(([term, text]) =>
    make('div', {}, make('dt', {}, term), make('dd', {}, text))));
}

const STAYS = 6000;

/** Show a message for some seconds; screen readers say it. */
export function notice(text, kind = 'good') {
  const note = make('p', {class: `notice ${kind}`}, text);
  byId('notices').append(note);
  setTimeout(() => note.remove(), STAYS);
}

/** Copy a text; where the browser refuses, show it to be copied by hand. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    notice(`${what} copied`);
  } catch {
    window.prompt(`${what}:`, text);
  }
}
