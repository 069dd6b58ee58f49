// Makes everything in dist/, or in another folder that is named. The same sources give the same bytes. Fails if the output is larger
// than it may be.
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { brotliCompressSync, constants } from 'node:zlib';
import { build } from 'vite';

const root = new URL('..', import.meta.url);
const [out = 'dist'] = process.argv.slice(2);
const folder = new URL(`${out}/`, root);
// Bytes with brotli, the best that it does.
const MAX_FIRST_PAGE = 60 * 1024;
const MAX_ALL = 120 * 1024;
/** Those of the documentation's pages, which have a folder of their own. */
const MAX_BOOK = 40 * 1024;
const SOURCES = ['index.html', 'package.json', 'package-lock.json', 'tsconfig.json', 'vite.config.ts', 'vite.book.config.ts', 'scripts/build.mjs'];

const made = await build({
  root: root.pathname,
  logLevel: 'warn',
  build: { outDir: folder.pathname, emptyOutDir: true },
});
const book = new URL('book/', folder);
await build({
  root: root.pathname,
  configFile: new URL('vite.book.config.ts', root).pathname,
  logLevel: 'warn',
  build: { outDir: book.pathname, emptyOutDir: true },
});
await pointPageAtFolder();
await writeFile(new URL('SOURCES.sha256', folder), await sources());
await checkSizes(made.output);
await checkBook();

/** The page is served one level above its files. */
async function pointPageAtFolder() {
  const page = new URL('index.html', folder);
  const html = await readFile(page, 'utf8');
  await writeFile(page, html.replaceAll('="./', '="dashboard/').replaceAll(' crossorigin', ''));
}

/** What the output was made of, as sha256sum writes it. */
async function sources() {
  const files = (await readdir(new URL('src/', root), { recursive: true })).filter((name) => /\.\w+$/.test(name)).map((name) => `src/${name}`);
  const lines = [...SOURCES, ...files].sort().map(async (name) => {
    const content = await readFile(new URL(name, root));
    return `${createHash('sha256').update(content).digest('hex')}  ${name}\n`;
  });
  return (await Promise.all(lines)).join('');
}

/** The first page is what the overview loads: the page, the style, the scripts that no `import()` waits for, and the charts. */
async function checkSizes(output) {
  const chunks = new Map(output.map((file) => [file.fileName, file]));
  const first = new Set(['index.html']);
  const add = (name) => {
    if (first.has(name)) return;
    first.add(name);
    chunks.get(name).imports?.forEach(add);
  };
  for (const file of output) if (file.isEntry || file.name === 'plot' || file.fileName.endsWith('.css')) add(file.fileName);
  let [page, all] = [0, 0];
  for (const name of (await readdir(folder)).filter((name) => !['SOURCES.sha256', 'book'].includes(name)).sort()) {
    const size = await packed(name, folder, first.has(name) ? ' first page' : '');
    all += size;
    if (first.has(name)) page += size;
  }
  console.log(`first page ${page} of ${MAX_FIRST_PAGE} bytes, all ${all} of ${MAX_ALL}`);
  if (page > MAX_FIRST_PAGE || all > MAX_ALL) {
    console.error('larger than it may be: load rarely used pages lazily, or leave something out');
    process.exit(1);
  }
}

async function checkBook() {
  let all = 0;
  for (const name of (await readdir(book)).sort()) all += await packed(name, book, ' documentation');
  console.log(`documentation ${all} of ${MAX_BOOK} bytes`);
  if (all > MAX_BOOK) {
    console.error('larger than it may be: leave a language or something else out');
    process.exit(1);
  }
}

/** Prints and returns the size of a file as it is sent. */
async function packed(name, from, note) {
  const content = await readFile(new URL(name, from));
  const size = brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
  console.log(`${name.padEnd(32)} ${String(content.length).padStart(7)} ${String(size).padStart(7)}${note}`);
  return size;
}
