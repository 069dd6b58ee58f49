// A page in WebKitGTK's own browser, for browser.mjs. Its driver speaks WebDriver, which is a few requests. It shows its window on an Xvfb.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../e2e/harness.mjs';

/** Opens a page at `url`. Returns how code is evaluated on it, the commands of browser.mjs, and how it is closed. */
export async function openPage(url) {
  const screen = spawn('Xvfb', ['-displayfd', '1', '-screen', '0', '800x600x24', '-nolisten', 'tcp'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [display] = await once(createInterface({ input: screen.stdout }), 'line');
  const port = await freePort();
  const env = { ...process.env, DISPLAY: `:${display}`, GDK_BACKEND: 'x11', NO_AT_BRIDGE: '1' };
  // The driver leads a group of its own, with the browser and its processes.
  const driver = spawn('/usr/bin/WebKitWebDriver', [`--port=${port}`], { env, detached: true, stdio: 'ignore' });
  const signal = (name) => process.kill(-driver.pid, name);
  process.on('exit', () => {
    signal('SIGKILL');
    screen.kill();
  });
  const ask = webDriver(`http://127.0.0.1:${port}`);
  await answers(ask);
  const alwaysMatch = { 'webkitgtk:browserOptions': { binary: '/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser', args: ['--automation'] } };
  const { sessionId } = await ask('POST', '/session', { capabilities: { alwaysMatch } });
  await ask('POST', `/session/${sessionId}/url`, { url });
  return {
    evaluate: (script) => ask('POST', `/session/${sessionId}/execute/sync`, { script, args: [] }),
    commands: { sleep: () => signal('SIGSTOP'), wake: () => signal('SIGCONT') },
    stop: () => ask('DELETE', `/session/${sessionId}`),
  };
}

/** Makes a function that asks the driver something, and returns its answer's value. */
function webDriver(base) {
  return async (method, path, body) => {
    const answer = await fetch(`${base}${path}`, { method, ...(body && { body: JSON.stringify(body) }) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  };
}

async function answers(ask) {
  for (const deadline = Date.now() + 30_000; ; ) {
    const ready = await ask('GET', '/status').then(() => true, () => false);
    if (ready) return;
    if (Date.now() > deadline) throw new Error('WebKitWebDriver does not answer');
    await delay(100);
  }
}
