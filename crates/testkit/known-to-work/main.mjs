// scripts/known-to-work: runs rows beside each other, keeps what each has shown, and writes the pages.
import { parseArgs } from 'node:util';
import { NotAvailable, temporaryFolder } from './install.mjs';
import { kinds, verdict } from './kinds.mjs';
import { renderPages } from './render.mjs';
import { keepResult } from './results.mjs';

/** What "idle" means on the pages, in seconds. */
const IDLE = 300;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { idle: { type: 'string', default: String(IDLE) }, render: { type: 'boolean', default: false } },
});
const [kindName, ...rowNames] = positionals;
const idle = Number(values.idle);
if (!(idle > 0)) fail(`--idle must be a number of seconds, it is '${values.idle}'`);
if (kindName && !kinds[kindName]) fail(`unknown kind '${kindName}': pass ${Object.keys(kinds).join(', ')}`);

const asked = (kindName ? [kinds[kindName]] : Object.values(kinds)).map((kind) => ({ kind, rows: rowsOf(kind) }));
let failed = 0;
// Each row adds listeners for its server and its program.
process.setMaxListeners(0);
// So that servers, programs and the folder go as well when the run is told to end.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));
if (!values.render) {
  const folder = await temporaryFolder();
  for (const { kind, rows } of asked) await runKind(kind, rows, folder);
}
renderPages();
process.exit(failed > 0 ? 1 : 0);

function rowsOf(kind) {
  const unknown = rowNames.find((name) => !kind.rows.some((row) => row.name === name));
  if (unknown) fail(`unknown row '${unknown}': pass ${kind.rows.map(({ name }) => `'${name}'`).join(', ')}`);
  return rowNames.length > 0 ? kind.rows.filter(({ name }) => rowNames.includes(name)) : kind.rows;
}

async function runKind(kind, rows, folder) {
  const left = [...rows];
  const workers = Math.min(kind.atOnce ?? rows.length, rows.length);
  await Promise.all(Array.from({ length: workers }, async () => {
    for (let row; (row = left.shift()); ) await runRow(kind, row, folder);
  }));
}

async function runRow(kind, row, folder) {
  const say = (text) => console.log(`${kind.name}, ${row.name}: ${text}`);
  try {
    const result = await row.run({ idle, say, temporary: folder });
    const { version, steps, seen } = result;
    if (idle === IDLE) keepResult(kind, row, { version, date: today(), steps, ...(seen && { seen }) });
    say(`works: ${verdict(kind, result)}; ${version} ${JSON.stringify(steps)} ${seen ?? ''}`);
  } catch (error) {
    // The result of an earlier run stays: it says at which version and on which day it was seen.
    failed += error instanceof NotAvailable ? 0 : 1;
    say(error instanceof NotAvailable ? `left out: ${error.message}` : `NOT RUN: ${error.stack}`);
  }
}

function today() {
  return new Date().toISOString().slice(0, 10);
}

function fail(message) {
  console.error(`scripts/known-to-work: ${message}`);
  process.exit(2);
}
