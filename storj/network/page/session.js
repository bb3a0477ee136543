// Who is signed in, and with which encryption key. Both last as long as the page, unless the person
// has them stored in this browser; the key is never sent.

import * as bridge from './bridge.js';
import {canDecrypt} from './ctr.js';
import {normalise, seedOf} from './keys.js';
import * as store from './store.js';

/** `email` and `authorized` (an Authorization header) of the user, `seed` of the encryption key. */
export const session = {email: '', authorized: null, seed: null};

/** Sign in by e-mail and password. Returns the buckets, which prove both. */
export async function signIn(email, password, isKept) {
  const authorized = bridge.authorization(email, password);
  const found = await bridge.buckets(authorized);
  Object.assign(session, {email, authorized});
  if (isKept) store.setLogin({email, authorized});
  return found;
}

/** Use an encryption key if `check(seed)` says that it is one of this account. */
export async function useKey(words, isKept, check) {
  const text = normalise(words);
  const seed = await seedOf(text);
  await check(seed);
  session.seed = seed;
  if (isKept) store.setKey(text);
}

export function forgetKey() {
  session.seed = null;
  store.setKey(null);
}

export function signOut() {
  forgetKey();
  Object.assign(session, {email: '', authorized: null});
  store.setLogin(null);
}

/** Take up what this browser has stored. */
export async function resume() {
  const login = store.getLogin();
  if (typeof login?.authorized !== 'string') return;
  Object.assign(session, {email: String(login.email), authorized: login.authorized});
  const words = store.getKey();
  if (typeof words === 'string' && canDecrypt()) session.seed = await seedOf(words);
}
