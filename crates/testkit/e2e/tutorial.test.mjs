// docs/tutorial.md, followed from its first step to its last, from the text of the page itself.
import { test } from 'node:test';
import { startReader, steps } from './tutorial.mjs';

test('a reader who follows the tutorial sees what it shows', async (t) => {
  const reader = await startReader();
  t.after(() => reader.stop());
  for (const step of steps()) {
    const passed = await t.test(step, async () => {
      await reader.follow(step);
      reader.done = step;
    });
    // Each step begins with what the one before it left.
    if (reader.done !== step) return passed;
  }
  reader.browser.assertQuiet({ expected: /ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_REFUSED|status of 403/ });
});
