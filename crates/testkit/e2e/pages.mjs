// Pages of docs/ as tests take them: their fenced blocks, those that are files, and the programs that readers leave running.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const DOCS = fileURLToPath(new URL('../../../docs', import.meta.url));
const TIMEOUT = 20_000;
const running = new Set();
process.on('exit', () => running.forEach((child) => process.kill(-child.pid, 'SIGKILL')));

/** The text of a page, whose name is its path in docs/. */
export function pageText(page) {
  return readFileSync(join(DOCS, page), 'utf8');
}

/**
 * The fenced blocks of a page's text, those of lists as well: the language, the word after it (`not-run`), the code, and where in the text
 * they begin.
 */
export function blocksOf(text) {
  return [...text.matchAll(/^( *)```(\w*)(?: (.+?))?\n(.*?)^\1```$/gms)].map(({ 1: indent, 2: language, 3: mark, 4: code, index }) => {
    return { language, mark, code: code.replaceAll(new RegExp(`^${indent}`, 'gm'), ''), index };
  });
}

export function blocks(page) {
  return blocksOf(pageText(page));
}

/** The name of the file that a block is: its first line is a comment with nothing else. */
export function fileName(code) {
  return code.match(/^(?:<\?php )?(?:\/\/|#|--|<!--) (\S+\.\w+)(?: -->)?\n/)?.[1];
}

/** The blocks of a page that are files, each with its name. */
export function files(page) {
  return blocks(page).map(({ code }) => [fileName(code), code]).filter(([name]) => name);
}

/** Writes files to a folder, with the folders that they need. */
export function writeFiles(folder, named) {
  for (const [name, code] of named) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), code);
  }
}

/** Makes a program one that can be called by its name alone, for who has `folder` in the PATH. */
export function install(folder, name, program) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), `#!/bin/sh\nexec '${program}' "$@"\n`, { mode: 0o755 });
}

/** Starts a program that runs beside the test. `until` waits for what it prints. */
export function start(program, args, { cwd, env }) {
  // `go run` has a child that would be left behind.
  const child = spawn(program, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (printed += chunk));
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  return {
    get printed() {
      return printed;
    },
    get ended() {
      return hasEnded();
    },
    async until(what) {
      const deadline = Date.now() + TIMEOUT;
      while (!what.test(printed)) {
        if (Date.now() > deadline || hasEnded()) throw new Error(`${[program, ...args].join(' ')} did not print ${what}:\n${printed}`);
        await delay(20);
      }
    },
    async stop(signal = 'SIGKILL') {
      if (hasEnded()) return;
      const ended = once(child, 'close');
      process.kill(-child.pid, signal);
      await ended;
    },
  };
}

/** Waits until a program takes connections at a port. */
export async function listens(program, port) {
  const deadline = Date.now() + TIMEOUT;
  for (;;) {
    const socket = createConnection(port, '127.0.0.1');
    const open = await once(socket, 'connect').then(() => true, () => false);
    socket.destroy();
    if (open) return;
    if (Date.now() > deadline || program.ended) throw new Error(`nothing listens on port ${port}:\n${program.printed}`);
    await delay(50);
  }
}
