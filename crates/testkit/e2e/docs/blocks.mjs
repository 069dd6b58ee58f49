// The code blocks of the Markdown pages.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { blocksOf, fileName } from '../pages.mjs';

export const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

/** What a block is that nobody runs: output, a request, or a language whose runtime these tests don't have. */
const SHOWN = ['text', 'http', 'java', 'swift'];

/** The pages whose blocks are to run: README.md, docs/ but its decisions, and the pages of deploy/. */
export function pages() {
  const all = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', 'README.md', 'docs', 'deploy'], { cwd: ROOT, encoding: 'utf8' });
  const markdown = all.trim().split('\n').filter((path) => /^(README|(docs|deploy)\/.*)\.md$/.test(path) && !path.startsWith('docs/adr/'));
  return [...new Set(markdown)].sort();
}

/**
 * The code blocks of a page, each with its place. `run` is false for what isn't run: marked so, or only shown. `file` is the name in a
 * comment that is the first line, `isUsed` says whether another block names that file, and `output` is what the page shows below a
 * command, in a block of text with nothing between.
 */
export function blocks(page) {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const found = blocksOf(text);
  const fences = text.match(/^ *```/gm) ?? [];
  if (fences.length !== 2 * found.length) throw new Error(`${page}: a code block has no end, or no language`);
  return found.map(({ language, mark, code, index }, number) => {
    const at = `${page}:${text.slice(0, index).split('\n').length}`;
    if (language === '') throw new Error(`${at}: name the block's language; output is \`text\``);
    if ((mark ?? 'not-run') !== 'not-run') throw new Error(`${at}: after the language comes nothing, or not-run: ${mark}`);
    const next = found[number + 1];
    const output = next?.language === 'text' && /```\s*$/.test(text.slice(index, next.index)) ? next.code : undefined;
    const file = fileName(code);
    // By a command, or by another file.
    const isUsed = file !== undefined && found.some((other) => other.code !== code && other.code.includes(file));
    return { at, language, code, output, file, isUsed, run: mark === undefined && !SHOWN.includes(language) };
  });
}
