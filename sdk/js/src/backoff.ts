import type { Reaction } from './protocol.js';

export interface BackoffOptions {
  /** Milliseconds within which the first retry happens. */
  first: number;
  /** Milliseconds within which every later one happens, however long the server has been away. */
  max: number;
}

// Enough to keep a crowd from coming in one moment, too little to be noticed.
const SPREAD = 250;
const LATER = 1000;

/**
 * Milliseconds until the next attempt to connect, `outage` milliseconds after the connection was lost. A client of a
 * short outage must be back soon after its end, whichever attempt that is, so the limit depends on the time and not on
 * the number of failures: 2 s in the first minute, 4 s in the first five, `max` after that. Both times have a margin,
 * because a client may be told to leave some seconds before the server stops. From the second attempt on, the upper half
 * of the limit is random: clients that were lost in one moment come back over a second or more.
 */
export function reconnectDelay(
  reaction: Reaction,
  failures: number,
  outage: number,
  { first, max }: BackoffOptions,
): number {
  const pace = outage < 75_000 ? 2_000 : outage < 330_000 ? 4_000 : max;
  let limit = doubled(failures, first, Math.min(pace, max));
  if (reaction === 'later') limit = Math.max(limit, 2 * LATER);
  else if (!failures) return Math.random() * (reaction === 'now' ? SPREAD : limit);
  return (limit * (1 + Math.random())) / 2;
}

/** Milliseconds until a refused request is sent again: anything up to a limit that doubles with each failure. */
export function retryDelay(failures: number, { first, max }: BackoffOptions): number {
  return Math.random() * doubled(failures, first, max);
}

function doubled(failures: number, first: number, max: number): number {
  return Math.min(max, first * 2 ** Math.min(failures, 30));
}
