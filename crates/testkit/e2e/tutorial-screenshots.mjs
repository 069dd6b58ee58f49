// Writes the pictures of docs/tutorial.md to the folder that is named, by following the tutorial. Run by scripts/tutorial-screenshots.
import { basename, join } from 'node:path';
import { startReader, steps } from './tutorial.mjs';
import { saveWebp } from './webp.mjs';

const [folder] = process.argv.slice(2);
/** The page and the book are both white. */
const FRAME = { frame: '#ccd3dd' };
const ADA = 'http://127.0.0.1:3000/?code=ada-4711';
const BEN = 'http://127.0.0.1:3000/?code=ben-0815';

const reader = await startReader({
  onPicture: async (path) => saveWebp(await encoder(), [await reader.screenshot()], join(folder, basename(path)), FRAME),
});
try {
  for (const step of steps()) await reader.follow(step);
  await finishedPage();
} finally {
  await reader.stop();
}

/** The first picture of the tutorial: two pages at the same moment, with all that was built. */
async function finishedPage() {
  await reader.open(ADA);
  await reader.open(BEN);
  for (const item of ['2 pancakes', '3 teas', '1 soup', '2 salads']) {
    await reader.page('ben').locator('#item').fill(item);
    await reader.page().getByRole('button').click();
    await reader.page().getByText(item).waitFor();
  }
  for (const line of ['1. 2 pancakes', '2. 3 teas']) await reader.page('ada').getByText(line).click();
  await reader.page('ben').locator('#item').pressSequentially('4 lemonades');
  await reader.page('ada').getByText('Ben is writing an order').waitFor();
  const pages = [await reader.screenshot('ada'), await reader.screenshot('ben')];
  await saveWebp(await encoder(), pages, join(folder, 'tutorial-kitchen.webp'), FRAME);
}

function encoder() {
  return reader.browser.open('about:blank');
}
