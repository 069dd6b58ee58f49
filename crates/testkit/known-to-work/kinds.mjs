// The kinds of outside software, each in a file of its own, which exports:
//   kind   { title, what, intro, steps: { NAME: { title, needed } }, atOnce }
//          `what` heads the column of names. `intro` is Markdown: first who needs the page, then what each step tries. A row works if no step with `needed` is "no" or was not tried.
//          `atOnce` says how many of its rows run beside each other; all of them without it.
//   rows   [{ name, group, set, note, test, run }]
//          `group` is a heading of the page, `set` what to set on either side, `note` what to know, both Markdown. `test` names
//          another test that proves more. `run({ idle, say, temporary })` returns { version, steps: { NAME: outcome }, seen }.
//          An outcome is "yes", "no" or "not offered", and may go on: "yes, after 1.2 s". `seen` is a sentence about this run.
//          It throws NotAvailable if the software can't be had here.
import { existsSync } from 'node:fs';

const NAMES = ['clients', 'server-sdks', 'browsers', 'proxies', 'stores', 'wire'];

/** Which kinds stand on which page of docs/compatibility. */
export const PAGES = {
  clients: ['clients', 'server-sdks'],
  browsers: ['browsers'],
  proxies: ['proxies'],
  stores: ['stores'],
  wire: ['wire'],
};

export const kinds = {};
for (const name of NAMES) {
  const file = new URL(`./${name}.mjs`, import.meta.url);
  if (!existsSync(file)) continue;
  const { kind, rows } = await import(file);
  kinds[name] = { ...kind, name, rows };
}

/** "yes", "no", or "yes, without …" for what the software doesn't have. */
export function verdict({ steps }, result) {
  const needed = Object.entries(steps).filter(([, step]) => step.needed);
  const outcome = (name) => result.steps[name] ?? 'not tried';
  const lacking = needed.filter(([name]) => outcome(name).startsWith('not offered')).map(([, { title }]) => title);
  if (!needed.every(([name]) => /^(yes|not offered)/.test(outcome(name)))) return 'no';
  return lacking.length > 0 ? `yes, without ${lacking.join(' and ')}` : 'yes';
}
