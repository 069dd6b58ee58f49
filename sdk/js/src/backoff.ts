import type { Reaction } from './protocol.js';

export interface BackoffOptions {
  /** Milliseconds within which the first retry happens. */
  first: number;
  /** Milliseconds within which every later one happens, however many there were. */
  max: number;
}

// Enough to keep a crowd from coming in one moment, too little to be noticed.
const SPREAD = 250;
const LATER = 1000;

/** Milliseconds until the next attempt, with full jitter: anything up to a limit that doubles with each failure. */
export function delayBefore(
  reaction: Reaction,
  failures: number,
  { first, max }: BackoffOptions,
  random: () => number = Math.random,
): number {
  const limit = Math.min(max, first * 2 ** Math.min(failures, 30));
  if (reaction === 'later') return LATER + random() * limit;
  if (reaction === 'now' && failures === 0) return random() * SPREAD;
  return random() * limit;
}
