/** Waits until `condition` holds. A condition that throws does not hold yet. */
export async function until(condition, what = String(condition), patience = 10_000) {
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
