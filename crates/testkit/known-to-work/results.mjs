// docs/compatibility/results: what was seen, one file for each kind, with the newest run of each row.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

const fileOf = (kind) => new URL(`../../../docs/compatibility/results/${kind}.json`, import.meta.url);

/** The results of a kind by the names of their rows; none before its first run. */
export function readResults(kind) {
  try {
    return JSON.parse(readFileSync(fileOf(kind), 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return {};
    throw error;
  }
}

/** Keeps a row's result at once, so that a run that is interrupted loses none. Rows that exist no more are dropped. */
export function keepResult(kind, row, result) {
  const all = { ...readResults(kind.name), [row.name]: result };
  const sorted = kind.rows.filter(({ name }) => all[name]).map(({ name }) => [name, all[name]]);
  const file = fileOf(kind.name);
  const unfinished = new URL(`${file}.new`);
  writeFileSync(unfinished, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`);
  renameSync(unfinished, file);
}
