// Folders, order and search of a bucket's files. Pure: lists in, lists out.

const compare = new Intl.Collator(undefined, {numeric: true, sensitivity: 'base'}).compare;
const fold = (text) => text.normalize('NFKD').replace(/\p{M}/gu, '').toLocaleLowerCase();

const COLUMNS = {
  name: (a, b) => compare(a.name, b.name),
  size: (a, b) => (a.size ?? 0) - (b.size ?? 0),
  created: (a, b) => a.created - b.created,
};

/**
 * What lies in a folder: files as they are, with the name within it, and folders by the slashes of
 * names. `path` is empty or ends with a slash.
 */
export function contentOf(files, path) {
  const folders = new Map();
  const found = [];
  for (const file of files) {
    if (!file.path.startsWith(path)) continue;
    const name = file.path.slice(path.length);
    const slash = name.indexOf('/');
    if (slash < 0 || slash === name.length - 1) {
      found.push({...file, name: name || file.path});
      continue;
    }
    const folder = folders.get(name.slice(0, slash))
      ?? {folder: `${path}${name.slice(0, slash + 1)}`, name: name.slice(0, slash) || '/',
        count: 0, size: 0, created: 0};
    folder.count += 1;
    folder.size += file.size;
    folder.created = Math.max(folder.created, file.created);
    folders.set(name.slice(0, slash), folder);
  }
  return [...folders.values(), ...found];
}

/** The files below a folder with all words of a query in their names, in any case. */
export function matching(files, path, query) {
  const words = fold(query).split(/\s+/).filter(Boolean);
  return files
    .filter((file) => file.path.startsWith(path))
    .map((file) => ({...file, name: file.path.slice(path.length) || file.path}))
    .filter(({name}) => words.every((word) => fold(name).includes(word)));
}

/** In the order of a column; folders come first. */
export function sorted(rows, {column, descending}) {
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => Boolean(b.folder) - Boolean(a.folder)
    || sign * COLUMNS[column](a, b) || compare(a.name, b.name));
}

const KINDS = [
  ['image', /^(avif|bmp|gif|heic|ico|jpe?g|png|svg|tiff?|webp)$/],
  ['video', /^(avi|m4v|mkv|mov|mp4|mpe?g|webm)$/],
  ['audio', /^(aac|flac|m4a|mp3|oga|ogg|opus|wav)$/],
  ['archive', /^(7z|bz2|gz|iso|rar|tar|tgz|xz|zip|zst)$/],
  ['table', /^(csv|ods|parquet|tsv|xlsx?)$/],
  ['text', /^(docx?|epub|html?|json|log|md|odt|pdf|rst|rtf|tex|toml|txt|xml|ya?ml)$/],
];

/** What an icon shows, by the ending of a name. */
export function kindOf(name) {
  const ending = /\.([^./]+)$/.exec(name)?.[1].toLowerCase() ?? '';
  return KINDS.find(([, pattern]) => pattern.test(ending))?.[0] ?? 'file';
}
