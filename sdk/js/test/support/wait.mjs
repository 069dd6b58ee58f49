/**
 * Waits until `condition` holds. A condition that throws does not hold yet. The default is long because the unmodified
 * pusher-js waits 15 s after an attempt to connect that failed, and 30 s after the second.
 */
export async function until(condition, what = String(condition), patience = 60_000) {
  const deadline = Date.now() + patience;
  for (;;) {
    let problem = '';
    try {
      if (await condition()) return;
    } catch (error) {
      problem = `: ${error.message}`;
    }
    if (Date.now() > deadline) throw new Error(`not within ${patience} ms: ${what}${problem}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
