// The search of the documentation: every section and every row of its pages.
import MiniSearch from 'minisearch';
import { element } from './element';

/** As the server sends it: address below the book, part and page, heading, and its line in the whole text. */
interface Place {
  u: string;
  p: string;
  h: string;
  l: number;
  /** 1 for a row of a table. */
  r?: 1;
}
type Section = Place & { t: string };
type Hit = Pick<Section, 'u' | 'p' | 'h' | 't'> & { terms: string[] };

const MAX_HITS = 20;
/** Characters of text around the first word that was found. */
const EXCERPT = 170;
/** Words that say nothing about what is looked for. */
const STOP = new Set("a an and are as at be by can do does don't doesn't did didn't for from get how i if in is isn't it my not of on or that the to was what when which why will with".split(' '));

/** Splits as people write what they look for: `limits.connections` and `pusher:error` are found whole and by their parts. */
function words(text: string): string[] {
  const whole = text.toLowerCase().split(/[^\p{L}\p{N}._:/'-]+/u).map((word) => word.replace(/^[._:/'-]+|[._:/'-]+$/g, ''));
  // "time-out" is found as "timeout", too.
  const parts = (word: string) => [...word.split(/[._:/-]+/), ...(/^\p{L}+-\p{L}+$/u.test(word) ? [word.replace('-', '')] : [])];
  return whole.flatMap((word) => [word, ...(/[._:/-]/.test(word) ? parts(word) : [])]).filter(Boolean);
}

export class Index {
  readonly #search = new MiniSearch<Section & { id: number }>({
    fields: ['h', 'p', 't'],
    storeFields: ['u', 'p', 'h', 't', 'r'],
    tokenize: words,
    processTerm: (term) => (STOP.has(term) ? null : stem(term)),
    searchOptions: {
      boost: { h: 4, p: 2 },
      boostDocument: (_id, _term, section) => {
        // A row repeats few words, so it would come before the section that explains them.
        const url = String(section?.u);
        // The first page only points elsewhere.
        if (url.startsWith('#')) return 0.1;
        return section?.r ? 0.4 : url.startsWith('answers#') ? 2 : 1;
      },
      prefix: (term) => term.length > 2, fuzzy: (term) => (term.length > 5 && term.length < 30 && !/\d/.test(term) ? 0.15 : false), combineWith: 'AND',
    },
  });

  constructor(sections: readonly Section[]) {
    this.#search.addAll(sections.map((section, id) => ({ ...section, id })));
  }

  /** The sections that have all words, or else those that have most of them; best first. */
  find(question: string): Hit[] {
    const all = this.#search.search(question);
    const hits = all.length > 0 ? all : this.#search.search(question, { combineWith: 'OR' });
    const phrase = question.toLowerCase();
    // A message or a name that is pasted is found where it stands word for word, first of all in the catalogue of errors.
    const weight = ({ u, h, t, score }: (typeof hits)[number]) => {
      if (!/[\s_.]/.test(phrase)) return score;
      if (h.toLowerCase() === phrase) return score * 20;
      return u.startsWith('errors#') && `${h} ${t}`.toLowerCase().includes(phrase) ? score * 10 : score;
    };
    hits.sort((a, b) => weight(b) - weight(a));
    return hits.slice(0, MAX_HITS).map(({ u, p, h, t, terms }) => ({ u, p, h, t, terms }));
  }
}

/** Takes the commonest endings away, so that "rotate keys" finds "rotating a key". */
function stem(term: string): string {
  if (term.length < 5 || /[^a-z]/.test(term)) return term;
  return term.replace(/(?:ations?|ating|ated|ates?|ings?|ed|es|s|e)$/, '') || term;
}

/** The text around the first word that was found, and that word and its like. */
export function excerpt(text: string, terms: readonly string[]): { text: string; isFound: boolean }[] {
  const places = terms.map((term) => text.toLowerCase().indexOf(term)).filter((place) => place >= 0);
  const first = Math.max(0, Math.min(...(places.length > 0 ? places : [0])) - EXCERPT / 3);
  const start = first === 0 ? 0 : text.indexOf(' ', first) + 1;
  const part = `${start > 0 ? '… ' : ''}${text.slice(start, start + EXCERPT)}${text.length > start + EXCERPT ? ' …' : ''}`;
  const found = terms.filter(Boolean).map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (found.length === 0) return [{ text: part, isFound: false }];
  return part.split(new RegExp(`(${found.join('|')})`, 'i')).map((piece, at) => ({ text: piece, isFound: at % 2 === 1 }));
}

let index: Promise<Index> | undefined;
let dialog: HTMLDialogElement | undefined;

/** Opens the search. `root` leads from this page to the book. */
export function open(root: string): void {
  dialog ??= make(root);
  if (!dialog.open) dialog.showModal();
  dialog.querySelector('input')?.select();
}

async function load(root: string): Promise<Index> {
  const [places, text] = await Promise.all([get(`${root}search.json`), get(`${root}llms-full.txt`)]);
  return new Index(sections(await places.json(), (await text.text()).split('\n')));
}

async function get(url: string): Promise<Response> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  return answer;
}

/** Each place with its text. Rows are places of their own, so a section is without those of its tables. */
export function sections(places: readonly Place[], lines: readonly string[]): Section[] {
  const headings = places.filter(({ r }) => !r);
  return places.map((place) => {
    const end = place.r ? place.l + 1 : (headings[headings.indexOf(place) + 1]?.l ?? lines.length);
    const own = lines.slice(place.l, end);
    const kept = place.r ? [own.join('').split(/(?<!\\)\|/).slice(2).join(' ')] : own.slice(1).filter((line) => !line.startsWith('|'));
    return { ...place, t: plain(kept.join(' ')) };
  });
}

/** Markdown without its marks. */
function plain(text: string): string {
  return text.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/```\S*|[`*]|\\(?=\|)/g, '').replace(/\s+/g, ' ').trim();
}

function make(root: string): HTMLDialogElement {
  const input = element('input', { type: 'search', 'aria-label': 'Search the documentation', placeholder: 'A word, a setting, an error, a code', autocomplete: 'off', spellcheck: 'false', maxlength: '200' });
  const list = element('ol', { class: 'hits' });
  const state = element('p', { class: 'state', role: 'status' });
  const made = element('dialog', { class: 'find', 'aria-label': 'Search' }, input, state, list);
  const show = async () => {
    const question = input.value.trim();
    index ??= load(root);
    try {
      const hits = question ? (await index).find(question) : [];
      // Typed on meanwhile.
      if (question !== input.value.trim()) return;
      list.replaceChildren(...hits.map((hit) => line(root, hit)));
      state.textContent = !question ? '' : hits.length === 0 ? 'Nothing has these words.' : `${hits.length} results, best first`;
    } catch (error) {
      index = undefined;
      state.textContent = `The search has no data: ${error instanceof Error ? error.message : error}. Type to try again.`;
    }
  };
  input.addEventListener('input', show);
  made.addEventListener('keydown', (event) => move(event, input, list));
  made.addEventListener('click', (event) => {
    // The backdrop, or a result on the same page.
    if (event.target === made || (event.target instanceof Element && event.target.closest('a'))) made.close();
  });
  document.body.append(made);
  void show();
  return made;
}

function line(root: string, { u, p, h, t, terms }: Hit): HTMLLIElement {
  const marked = (text: string) => excerpt(text, terms).map((piece) => (piece.isFound ? element('mark', {}, piece.text) : piece.text));
  const link = element('a', { href: root + u }, element('small', {}, p), element('b', {}, ...marked(h)), element('span', {}, ...marked(t)));
  return element('li', {}, link);
}

/** Arrows go through the results; Enter in the field opens the first. */
function move(event: KeyboardEvent, input: HTMLInputElement, list: HTMLOListElement): void {
  // Enter ends the choice of a character then.
  if (event.isComposing) return;
  const links = [...list.querySelectorAll('a')];
  const at = links.indexOf(document.activeElement as HTMLAnchorElement);
  if (event.key === 'Enter' && document.activeElement === input) links[0]?.click();
  else if (event.key === 'ArrowDown') (links[at + 1] ?? links[0])?.focus();
  else if (event.key === 'ArrowUp') (links[at - 1] ?? input).focus();
  else return;
  event.preventDefault();
}
