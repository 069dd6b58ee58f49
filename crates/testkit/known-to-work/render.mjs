// Writes docs/compatibility/*.md from the results and from what their rows say.
import { writeFileSync } from 'node:fs';
import { PAGES, kinds, verdict } from './kinds.mjs';
import { readResults } from './results.mjs';

const MADE = '<!-- Made by scripts/known-to-work. -->';

/** The text of a page, or nothing if none of its kinds is defined. */
export function page(name) {
  const of = PAGES[name].filter((kind) => kinds[kind]).map((kind) => kinds[kind]);
  if (of.length === 0) return undefined;
  const [first, ...others] = of.map(section);
  return [MADE, `# ${first}`, ...others.map((text) => `# ${text}`.replace(/^#/gm, '##'))].join('\n\n') + '\n';
}

export function renderPages() {
  for (const name of Object.keys(PAGES)) {
    const text = page(name);
    if (text) writeFileSync(new URL(`../../../docs/compatibility/${name}.md`, import.meta.url), text);
  }
}

function section(kind) {
  const results = readResults(kind.name);
  const run = kind.rows.filter(({ name }) => results[name]);
  const groups = [...new Set(run.map(({ group }) => group))];
  const working = run.filter(({ name }) => verdict(kind, results[name]) !== 'no').length;
  const [lead, ...others] = kind.intro.trim().split('\n\n');
  const count = `Of ${run.length} that were run, ${working} work.`;
  return [
    kind.title,
    `${lead}\n${count}`,
    ...others,
    ...groups.flatMap((group) => {
      const rows = run.filter((row) => row.group === group);
      return [...(group ? [`## ${group}`] : []), table(kind, rows, results), ...notes(rows, results)];
    }),
  ].join('\n\n');
}

function table(kind, rows, results) {
  const titles = [kind.what, 'version', 'run', 'works', ...Object.values(kind.steps).map(({ title }) => title)];
  const lines = rows.map((row) => {
    const { version, date, steps } = results[row.name];
    const outcomes = Object.keys(kind.steps).map((name) => steps[name] ?? 'not tried');
    return [row.name, version, date, verdict(kind, results[row.name]).replace(/^no$/, '**no**'), ...outcomes];
  });
  const row = (cells) => `| ${cells.map(cell).join(' | ')} |`;
  return [row(titles), `|${titles.map(() => '---').join('|')}|`, ...lines.map(row)].join('\n');
}

/** What a reader has to know of some rows, below their table. What holds for several is said once. */
function notes(rows, results) {
  const names = new Map();
  for (const { name, set, note, test } of rows) {
    const said = [set && `Set ${set}`, note, results[name].seen, test && `More is proven by \`${test}\`.`].filter(Boolean).join(' ');
    if (said) names.set(said, [...(names.get(said) ?? []), name]);
  }
  const lines = [...names].map(([said, of]) => wrap(`- **${of.join(', ')}**: ${said}`));
  return lines.length > 0 ? [lines.join('\n')] : [];
}

function cell(text) {
  return String(text).replaceAll('|', '\\|').replaceAll('\n', ' ');
}

/** A list item on lines of about 100 columns. */
function wrap(text) {
  const lines = [''];
  for (const word of text.split(/\s+/)) {
    const line = lines.at(-1);
    if (line && `${line} ${word}`.length > 100) lines.push(`  ${word}`);
    else lines[lines.length - 1] = line ? `${line} ${word}` : word;
  }
  return lines.join('\n');
}
