// The pictures of the documentation are those that their sources give, each image is on a page, and pages show only what is there and
// say in words what it is.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { IMAGES, REPOSITORY, draw, pictureNames } from './pictures.mjs';

/** A phone loads a picture with the page. */
const MAX_BYTES = 15_000;

const names = await pictureNames();
const shown = (await Promise.all(repositoryFiles('*.md').map(imagesOf))).flat();
const svg = (name) => readFile(new URL(`${name}.svg`, IMAGES), 'utf8');

for (const name of names) {
  test(`docs/images/${name}.svg is what its source gives`, async () => {
    assert.equal(await svg(name), await draw(name), 'run scripts/pictures');
  });

  test(`${name} is small, asks nobody for anything, and has both schemes and words for screen readers`, async () => {
    const text = await svg(name);
    assert.ok(Buffer.byteLength(text) < MAX_BYTES, `${Buffer.byteLength(text)} bytes`);
    assert.doesNotMatch(text.replace('xmlns="http://www.w3.org/2000/svg"', ''), /https?:|href|@import|@font-face|url\(|<script|<image/);
    assert.match(text, /@media\(prefers-color-scheme:dark\)/);
    assert.match(text, /<title id="[\w-]+-title">[^<]{10,}<\/title>\n<desc id="[\w-]+-desc">[^<]{40,}<\/desc>/);
  });
}

describe('in Chromium', () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.stop());

  test('no text of a picture leaves it or its shape, or covers another', async () => {
    const page = await browser.open('about:blank');
    for (const name of names) {
      await page.setContent(await svg(name));
      assert.deepEqual(await page.evaluate(misplacedTexts), [], name);
    }
  });
});

test('every image that a page shows is there, and has a text for those who do not see it', () => {
  const wrong = shown.filter(({ url, alternative }) => url.protocol !== 'file:' || !existsSync(url) || alternative.trim().length < 4);
  assert.deepEqual(wrong.map(({ page, url }) => `${page}: ${url}`), []);
});

test('every image of the documentation is on a page', () => {
  const urls = new Set(shown.map(({ url }) => url.href));
  assert.deepEqual(repositoryFiles('docs/images/*').filter((path) => !urls.has(new URL(path, REPOSITORY).href)), []);
});

/** Files of the repository, those that are still to be added too. */
function repositoryFiles(pattern) {
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', pattern], { cwd: REPOSITORY, encoding: 'utf8' });
  return files.split('\n').filter((path) => path && existsSync(new URL(path, REPOSITORY)));
}

/** The images that a page shows, in Markdown or HTML, outside its code. */
async function imagesOf(page) {
  const location = new URL(page, REPOSITORY);
  const prose = (await readFile(location, 'utf8')).replace(/^```[^]*?^```/gm, '').replace(/`[^`\n]*`/g, '');
  const image = (address, alternative = '') => ({ page, url: new URL(address, location), alternative });
  const inMarkdown = prose.matchAll(/!\[([^\]]*)\]\(([^)\s]+)[^)]*\)/g);
  const inHtml = prose.matchAll(/<img\b[^>]*>/g);
  return [
    ...Array.from(inMarkdown, ([, alternative, address]) => image(address, alternative)),
    ...Array.from(inHtml, ([tag]) => image(/\bsrc="([^"]*)/.exec(tag)?.[1], /\balt="([^"]*)"/.exec(tag)?.[1])),
  ];
}

/** Runs in the page: texts that leave the picture or the shape on which they are, and pairs that cover each other. */
function misplacedTexts() {
  const boxes = (selector) => Array.from(document.querySelectorAll(selector), (element) => ({ text: element.textContent, box: element.getBBox() }));
  const inside = (inner, outer) =>
    inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width && inner.y + inner.height <= outer.y + outer.height;
  // Lines of a text are higher than its letters.
  const cover = (one, other) =>
    one.x < other.x + other.width && other.x < one.x + one.width && one.y + 3 < other.y + other.height - 3 && other.y + 3 < one.y + one.height - 3;
  const texts = boxes('text');
  const shapes = boxes('path:not(.hollow), circle');
  const picture = document.querySelector('svg').viewBox.baseVal;
  return [
    ...texts.filter(({ box }) => !inside(box, picture)),
    ...boxes('.ink').filter(({ box }) => !shapes.some((shape) => inside(box, shape.box))),
    ...texts.filter(({ box }, index) => texts.slice(index + 1).some((other) => cover(box, other.box))),
  ].map(({ text }) => text);
}
