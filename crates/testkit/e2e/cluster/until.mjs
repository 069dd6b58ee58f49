import { setTimeout as delay } from 'node:timers/promises';

/** How long a busy machine may take for what usually takes no time. */
const PATIENCE = 20_000;

/**
 * Asks until the answer is true, and returns it. What `check` throws counts as no, and is told when the time is over, as is what
 * `explain` says then.
 */
export async function until(what, check, { within = PATIENCE, every = 20, explain = () => '' } = {}) {
  const deadline = performance.now() + within;
  for (;;) {
    let reason = '';
    try {
      const answer = await check();
      if (answer) return answer;
    } catch (error) {
      reason = error.message;
    }
    if (performance.now() > deadline) throw new Error(`not within ${within} ms: ${what} ${[reason, explain()].filter(Boolean).join('\n')}`);
    await delay(every);
  }
}
