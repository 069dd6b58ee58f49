// Follows docs/tutorial.md as a reader would: saves its files, applies its changes, runs its commands, does with pages what its
// sentences say, and compares what it shows with what is there.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startBrowser } from './browser.mjs';
import { binary, eventually, freePort, startServer } from './harness.mjs';
import { blocksOf, install, pageText, start, writeFiles } from './pages.mjs';

const PAGE = 'tutorial.md';
const APP = '1001';
const BACKEND = 'node --watch';
const STARTED = 'The kitchen is at …';
const TIMEOUT = 15_000;
/** Below a picture, in pixels of a page. */
const MARGIN = 16;
const VIEWPORT = { width: 420, height: 480 };
const run = promisify(execFile);

/** What the page tells its reader to do, in the order in which a sentence says it. */
const INSTRUCTIONS = [
  [/open <(http[^>]+)>/i, (reader, [, url]) => reader.open(url)],
  [/open the page in a second tab, and it shows the same/i, (reader) => reader.openAgain()],
  [/reload (\w+)'s page/i, (reader, [, who]) => reader.reload(who)],
  [/close (\w+)'s page/i, (reader, [, who]) => reader.close(who)],
  [/reload the page/i, (reader) => reader.reload()],
  [/close this page/i, (reader) => reader.close(reader.who)],
  [/type \*([^*]+)\* into (?:the page's|(\w+)'s)\s+form/i, (reader, [, text, who]) => reader.page(who).locator('#item').pressSequentially(text)],
  [/(?:press|click) \*([^*]+)\*/i, (reader, [, text]) => reader.page().getByText(text, { exact: true }).click()],
  [/take (\w+)'s page offline/i, (reader, [, who]) => reader.setOffline(who, true)],
  [/take (\w+)'s page online/i, (reader, [, who]) => reader.setOffline(who, false)],
  [/wait for `(\w+)`/i, (reader, [, text]) => reader.page().getByText(text, { exact: true }).waitFor()],
  [/restart Fanfare/, (reader) => reader.restartServer()],
  [/so does (\w+)'s page/i, (reader, [, who]) => reader.showsAsWell(who)],
  [/(\w+)'s page doesn't show it/, (reader, [, who]) => reader.lacksLastLine(who)],
  [/(\w+)'s page (?:shows|has)/, (reader, [, who]) => reader.page(who)],
  [/the server prints/i, (reader) => (reader.shown = { printed: reader.server.log })],
  [/the backend prints/i, (reader) => (reader.shown = reader.backend)],
  [/!\[[^\]]*\]\(([^)]+)\)/, (reader, [, path]) => reader.onPicture(path, reader)],
];

/** Titles of the steps, in order. */
export function steps() {
  return sections().map(({ title }) => title);
}

function sections() {
  const [intro, ...all] = pageText(PAGE).split(/^## /m);
  assert.match(intro, /^# Tutorial/);
  return all.map((text) => ({ title: text.slice(0, text.indexOf('\n')), text }));
}

/** A reader with a server, an empty folder and a browser. `onPicture(path, reader)` is called where the page has a picture. */
export async function startReader({ onPicture = () => {} } = {}) {
  const server = await startServer({ app: false, env: { FANFARE_DEMO: 'true' } });
  const browser = await startBrowser({ viewport: VIEWPORT, deviceScaleFactor: 2 });
  return new Reader(server, browser, await freePort(), onPicture);
}

class Reader {
  /** Whose page was mentioned last. Strangers have no code. */
  who = 'stranger';
  /** What prints the output that the tutorial shows next; nothing if it shows a page of the application. */
  shown;
  backend;
  /** What the tutorial said last of a page. */
  #expected;
  #pages = new Map();
  #offline = new Map();
  #programs = [];

  constructor(server, browser, port, onPicture) {
    this.server = server;
    this.browser = browser;
    this.port = String(port);
    this.onPicture = onPicture;
    this.work = mkdtempSync(join(tmpdir(), 'fanfare-tutorial-'));
    this.folder = join(this.work, 'kitchen');
    // Where Node looks as well, and what the tutorial's npm would install.
    symlinkSync(fileURLToPath(new URL('node_modules', import.meta.url)), join(this.work, 'node_modules'));
    const bin = join(this.work, 'bin');
    install(bin, 'fanfare', resolve(binary()));
    this.env = {
      PATH: `${bin}:${process.env.PATH}`,
      HOME: this.work,
      FANFARE_DATA_DIR: server.dataDir,
      FANFARE_LISTEN: `127.0.0.1:${server.port}`,
    };
  }

  /** Does all that a step says, and checks all that it shows. */
  async follow(title) {
    const { text } = sections().find((section) => section.title === title);
    let at = 0;
    for (const block of blocksOf(text)) {
      const prose = text.slice(at, block.index);
      // What a command prints stands right below it; other output is announced, and the rest is on pages.
      if (prose.trim()) this.shown = undefined;
      await this.#read(prose);
      at = block.index + text.slice(block.index).indexOf(block.code) + block.code.length + '```\n'.length;
      await this.#take(block);
    }
    await this.#read(text.slice(at));
  }

  /** Changes one place of a file, which is no step of the tutorial. */
  edit(file, from, to) {
    return this.#change(file, (before) => {
      assert.equal(before.split(from).length, 2, `${file} does not have this once: ${from}`);
      return before.replace(from, to);
    });
  }

  /** Runs a command of the tutorial's kind that is not in it. */
  async run(command) {
    await this.#command(this.#here(command));
    return this.shown;
  }

  /** The page of a member of staff, or the one that was mentioned last. */
  page(who = this.who) {
    this.who = who.toLowerCase();
    assert.ok(this.#pages.has(this.who), `the tutorial has opened no page of ${who}`);
    return this.#pages.get(this.who);
  }

  async open(url) {
    const who = /code=(\w+)-/.exec(url)?.[1] ?? 'stranger';
    await this.#settle();
    this.#pages.set(who, await this.browser.open(this.#here(url)));
    await this.page(who).getByText(/^(dis)?connected$/).waitFor();
  }

  /** A picture of the page as far as it is filled. */
  async screenshot(who) {
    const page = this.page(who);
    const { y, height } = await page.locator('body').boundingBox();
    return page.screenshot({ clip: { x: 0, y: 0, width: VIEWPORT.width, height: Math.ceil(y + height + MARGIN) } });
  }

  async reload(who) {
    await this.#settle();
    await this.page(who).reload();
  }

  async openAgain() {
    const expected = words(await this.page().innerText('body'));
    const page = await this.browser.open(this.page().url());
    await eventually(async () => assert.equal(words(await page.innerText('body')), expected), TIMEOUT);
    await page.close();
  }

  /** Compares a page with what was last compared with another one. */
  async showsAsWell(who) {
    const page = this.page(who);
    await eventually(async () => assert.equal(words(await page.innerText('body')), words(this.#expected)), TIMEOUT);
  }

  async lacksLastLine(who) {
    const line = this.#expected.trimEnd().split('\n').at(-1);
    assert.ok(!words(await this.page(who).innerText('body')).includes(line), `${who}'s page shows ${line}`);
  }

  async close(who) {
    await this.page(who).close();
    this.#pages.delete(this.who);
  }

  /** What the developer tools of the browser do for the page. */
  async setOffline(who, offline) {
    const page = this.page(who);
    // A reader is slower than the requests of a page that was just loaded.
    if (offline) {
      await page.waitForFunction(() => document.getElementById('state').textContent === 'connected');
      await page.waitForLoadState('networkidle');
    }
    if (!this.#offline.has(page)) this.#offline.set(page, await page.context().newCDPSession(page));
    await this.#offline.get(page).send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  }

  async restartServer() {
    await this.server.end();
    await this.server.start();
  }

  async stop() {
    for (const program of this.#programs.reverse()) await program.stop();
    await this.browser.stop();
    await this.server.stop();
    rmSync(this.work, { recursive: true, force: true });
  }

  /** Waits until the server has what commands have changed, which takes it up to a second: a change through its API is active at once. */
  async #settle() {
    const token = (this.token ??= JSON.parse(await this.server.cli('token', 'create', '--name', 'test', '--role', 'admin', '--json')).secret);
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    await eventually(async () => {
      const { status } = await fetch(`${this.server.url}/api/v1/apps/${APP}`, { method: 'PATCH', headers, body: '{}' });
      assert.equal(status, 200);
    });
  }

  /** Does what the sentences between two blocks say. */
  async #read(prose) {
    const text = prose.replaceAll(/\s+/g, ' ');
    const found = INSTRUCTIONS.flatMap(([pattern, act]) =>
      [...text.matchAll(new RegExp(pattern, `${pattern.flags}g`))].map((match) => ({ match, act })),
    );
    found.sort((a, b) => a.match.index - b.match.index);
    for (const { match, act } of found) {
      try {
        await act(this, match);
      } catch (error) {
        throw new Error(`"${match[0]}": ${error.message}`, { cause: error });
      }
    }
  }

  async #take({ language, mark, code }) {
    const name = code.match(/^(?:\/\/|<!--) (\w+\.\w+)(, at the end)?(?: -->)?\n/);
    if (language === 'diff') await this.#change(name[1], (before) => applied(before, this.#here(code.slice(name[0].length)), name[1]));
    else if (name?.[2]) await this.#change(name[1], (before) => `${before}\n${this.#here(code.slice(name[0].length))}`);
    else if (name) writeFiles(this.folder, [[name[1], this.#here(code)]]);
    else if (language === 'sh' && mark !== 'not-run') await this.#command(this.#here(code));
    else if (language === 'text' || language === 'json') await this.#compare(this.#here(code));
    else assert.equal(mark, 'not-run', `nothing tries this block out:\n${code}`);
  }

  /** Changes a file. Node starts the backend again if it is one of its own. */
  async #change(file, change) {
    const path = join(this.folder, file);
    writeFileSync(path, change(readFileSync(path, 'utf8')));
    if (!file.endsWith('.mjs')) return;
    await printed(this.backend, STARTED);
  }

  async #command(code) {
    const shell = ['bash', ['-ec', code], { cwd: existsSync(this.folder) ? this.folder : this.work, env: this.env }];
    if (code.includes(BACKEND) || code.includes('webhook forward')) {
      this.shown = start(...shell);
      this.#programs.push(this.shown);
      if (code.includes(BACKEND)) this.backend = this.shown;
    } else {
      const [program, args, options] = shell;
      const { stdout } = await run(program, args, { ...options, timeout: TIMEOUT });
      this.shown = { printed: stdout, whole: true };
    }
  }

  /** Compares what the tutorial shows with what was printed, or with what is on a page of the application. */
  async #compare(expected) {
    if (this.shown) return printed(this.shown, expected);
    this.#expected = expected;
    await this.showsAsWell(this.who);
  }

  /** With the ports that are free here. */
  #here(text) {
    return text
      .replaceAll(/(127\.0\.0\.1:|listen\()3000/g, `$1${this.port}`)
      .replaceAll(/(127\.0\.0\.1:|port: )6001/g, `$1${this.server.port}`);
  }
}

/** Waits until a program has printed this after what was compared before. `…` stands for any text in a line. */
async function printed(program, expected) {
  const lines = spaced(expected).replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*');
  const pattern = program.whole ? new RegExp(`^${lines}$`) : new RegExp(`^${lines}$`, 'm');
  await eventually(() => {
    const after = spaced(program.printed).slice(program.compared ?? 0);
    const found = pattern.exec(after);
    assert.ok(found, `expected:\n${expected}\nprinted:\n${after}`);
    program.compared = (program.compared ?? 0) + found.index + found[0].length;
  }, TIMEOUT);
}

/** Lines without spaces at their ends, and with one between two columns, whose widths differ from run to run. */
function spaced(text) {
  return text.replaceAll(/ +/g, ' ').replaceAll(/ $/gm, '').trimEnd();
}

/** A file after a change: each run of lines with - is in it once, and becomes the lines with + that follow. */
function applied(before, diff, name) {
  let text = before;
  for (const [, removed, added] of diff.matchAll(/((?:^-.*\n)+)((?:^\+.*\n)+)/gm)) {
    const [from, to] = [removed, added].map((lines) => lines.replaceAll(/^[-+]/gm, ''));
    assert.equal(text.split(from).length, 2, `${name} does not have these lines once:\n${from}`);
    text = text.replace(from, () => to);
  }
  return text;
}

/** A text with single spaces between its words. */
function words(text) {
  return text.trim().replaceAll(/\s+/g, ' ');
}
