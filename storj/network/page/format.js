// Numbers, sizes and times for people.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes in the unit that suits them: `0 B`, `5 MiB`, `1.4 GiB`. */
export function bytes(count) {
  let value = Math.max(0, Number(count) || 0);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** Seconds in the units that suit them: `8 s`, `3 min`, `2 h 5 min`. */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const DAY = new Intl.DateTimeFormat(undefined, {dateStyle: 'medium'});

/** The day of a time in milliseconds. */
export const day = (milliseconds) => DAY.format(milliseconds);

/** How long ago a time in milliseconds was. */
export function ago(milliseconds, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - milliseconds) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return day(milliseconds);
}
