// What a page of the documentation does by itself: search, colours, the menu where it is narrow, and code that can be copied.
// Without scripts a page is still whole.
import { stored, store } from '../storage';
import './book.css';
import { element } from './element';

const root = document.body.dataset.root ?? './';

/** The button, ready for use. */
function button(selector: string): HTMLButtonElement {
  const found = document.querySelector<HTMLButtonElement>(selector);
  if (!found) throw new Error(`the page has no ${selector}`);
  found.hidden = false;
  return found;
}

const search = button('.search');
const openSearch = async () => (await import('./search')).open(root);
search.addEventListener('click', openSearch);
addEventListener('keydown', (event) => {
  const isTyping = event.target instanceof Element && event.target.closest('input, textarea, dialog');
  const isShortcut = event.key === '/' || (event.key === 'k' && (event.ctrlKey || event.metaKey));
  if (!isShortcut || isTyping) return;
  event.preventDefault();
  void openSearch();
});

const contents = document.querySelector<HTMLElement>('#contents');
const current = contents?.querySelector<HTMLElement>('[aria-current]');
const menu = button('.menu');
const openMenu = (isOpen: boolean) => {
  document.body.classList.toggle('open', isOpen);
  menu.setAttribute('aria-expanded', String(isOpen));
  // The contents come after the whole bar.
  (isOpen ? (current ?? contents?.querySelector('a')) : menu)?.focus();
};
menu.addEventListener('click', () => openMenu(menu.ariaExpanded !== 'true'));
contents?.addEventListener('keydown', ({ key }) => key === 'Escape' && menu.ariaExpanded === 'true' && openMenu(false));

/** The same order and signs as in the dashboard. */
const SCHEMES = [
  ['system', '◐'],
  ['light', '○'],
  ['dark', '●'],
] as const;
const scheme = button('.scheme');
let at = Math.max(0, SCHEMES.findIndex(([name]) => name === stored('scheme')));
const showScheme = () => {
  const [[name, sign], [next]] = [SCHEMES[at % 3]!, SCHEMES[(at + 1) % 3]!];
  document.documentElement.dataset.scheme = name;
  scheme.textContent = sign;
  scheme.ariaLabel = `Colours: ${name}; switch to ${next}`;
  scheme.title = scheme.ariaLabel;
};
scheme.addEventListener('click', () => {
  at = (at + 1) % SCHEMES.length;
  store('scheme', at === 0 ? null : SCHEMES[at]![0]);
  showScheme();
});
showScheme();

// Says what happened to those who don't see the button.
const said = element('p', { class: 'hidden', role: 'status' });
document.body.append(said);
const blocks = [...document.querySelectorAll<HTMLElement>('pre > code')];
for (const code of blocks) {
  const copy = element('button', { class: 'copy', type: 'button' }, 'Copy');
  copy.addEventListener('click', async () => {
    copy.textContent = (await copied(code)) ? 'Copied' : 'Select it, and copy it by hand';
    said.textContent = copy.textContent;
    setTimeout(() => {
      copy.textContent = 'Copy';
      said.textContent = '';
    }, 2_000);
  });
  const box = element('div', { class: 'code' });
  code.parentElement!.replaceWith(box);
  const pre = element('pre', {});
  pre.append(code);
  box.append(pre, copy);
}

// What is wider than the page is scrolled with the keyboard, too. The rest would only be more to pass.
const wide = () => {
  for (const box of document.querySelectorAll<HTMLElement>('article :is(pre, .table)')) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute('tabindex');
  }
};
addEventListener('resize', wide);
wide();

/** Whether the text of an element is in the clipboard. Over plain HTTP from another machine browsers have none. */
async function copied(code: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(code.textContent ?? '');
    return true;
  } catch {
    getSelection()?.selectAllChildren(code);
    return document.execCommand('copy');
  }
}

if (blocks.some((code) => code.className)) {
  const { highlight } = await import('./highlight');
  blocks.forEach(highlight);
}

// The heading that is being read, in the outline.
const outline = new Map([...document.querySelectorAll<HTMLAnchorElement>('nav.page a')].map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const headings = [...document.querySelectorAll<HTMLElement>('article :is(h2, h3)')].filter(({ id }) => outline.has(id));
const follow = () => {
  const passed = headings.filter((heading) => heading.getBoundingClientRect().top < 120).at(-1);
  for (const [id, link] of outline) {
    if (id === passed?.id) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
  }
};
addEventListener('scroll', follow, { passive: true });
follow();
// Only the contents: scrollIntoView would scroll the page as well.
if (contents && current) contents.scrollTop = current.offsetTop - contents.clientHeight / 2;
