// How fast a transfer is, and how long the rest of it takes.

import {bytes, duration} from './format.js';

// Milliseconds that the rate is the mean of, and that it takes to be known at all.
const WINDOW = 8000;
const SETTLED = 1000;

/** Measures a transfer of `total` bytes; `now` is a clock in milliseconds. */
export class Rate {
  constructor(total, now = () => performance.now()) {
    this.total = total;
    this.now = now;
    this.samples = [];
  }

  /** Note that so many bytes are through. Returns a line about it. */
  update(done) {
    const time = this.now();
    // What is fetched anew after a failure is no speed.
    if (this.samples.length && done < this.samples.at(-1).done) this.samples = [];
    this.samples.push({time, done});
    while (this.samples.length > 2 && time - this.samples[1].time > WINDOW) this.samples.shift();
    const first = this.samples[0];
    const parts = [`${bytes(done)} of ${bytes(this.total)}`];
    if (time - first.time >= SETTLED && done > first.done) {
      const speed = 1000 * (done - first.done) / (time - first.time);
      parts.push(`${bytes(speed)}/s`);
      if (done < this.total) parts.push(`${duration((this.total - done) / speed)} left`);
    }
    return parts.join(' · ');
  }
}
