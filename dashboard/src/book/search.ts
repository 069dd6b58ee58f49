// The search of the documentation: every section and every row of its pages.
import MiniSearch from 'minisearch';
import { element } from './element';
import { SYNONYMS } from './synonyms';

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
/** Words of a question that are looked for. Somebody may paste a whole log. */
const MAX_WORDS = 24;
/** Words that say nothing about what is looked for. */
const STOP = new Set("a an and any are as at be been but by can can't change changed could did didn't do does doesn't don't for from get getting has have help how i i'm if in into is isn't it it's me my no not of on or our please should so that the there this to use used using was we what when where which why will with won't would you your".split(' '));
/** How much a section counts, by the beginning of its address. Lists for reference repeat the words of the sections that explain. */
const WEIGHTS: readonly (readonly [begin: string, weight: number])[] = [
  // The first page only points elsewhere.
  ['#', 0.1],
  ['answers#', 1.6],
  ['benchmarks', 0.6],
  ['commands', 0.6],
  ['compatibility', 0.5],
  ['configuration#', 0.8],
  ['metrics', 0.7],
  ['move-from-', 0.8],
  // For authors of clients.
  ['protocol', 0.85],
  ['quickstart/#', 1],
  // The same in six languages.
  ['quickstart/', 0.7],
];
/** The beginning of a page says what the whole of it is about. */
const PAGE = 1.3;
/** A row repeats few words, so it would come before the section that explains them. */
const ROW = 0.4;
/** What a synonym counts, beside the word that was typed. */
const SYNONYM = 0.8;

/** Splits as people write what they look for: `limits.connections`, `pusher:error` and `FanfareNodeDown` are found whole and by their parts. */
function words(text: string): string[] {
  return wholeWords(text).flatMap((word) => {
    const known = split.get(word) ?? withParts(word);
    split.set(word, known);
    return known;
  });
}

const split = new Map<string, string[]>();

function withParts(word: string): string[] {
  const parts = /[._:/-]|\p{Ll}\p{Lu}/u.test(word) ? word.replace(/\p{Ll}(?=\p{Lu})/gu, '$&-').split(/[._:/-]+/) : [];
  // "time-out" is found as "timeout", too.
  const joined = /^\p{L}+-\p{L}+$/u.test(word) ? [word.replace('-', '')] : [];
  return [word, ...parts, ...joined].filter(Boolean).map((part) => part.toLowerCase());
}

function wholeWords(text: string): string[] {
  return text.replaceAll('’', "'").split(/[^\p{L}\p{N}._:/'-]+/u).map((word) => word.replace(/^[._:/'-]+|[._:/'-]+$/g, '')).filter(Boolean);
}

const stems = new Map<string, string>();

/** Takes endings away, so that "rotate keys" finds "rotating a key". */
function stem(term: string): string {
  const known = stems.get(term);
  if (known !== undefined) return known;
  const made = /^[a-z]{4,}$/.test(term) ? stemmed(term) : term;
  stems.set(term, made);
  return made;
}

function stemmed(term: string): string {
  const [, begin = term, ending] = /^(.{3,}?)(?:(ies)|ations?|ating|ated|ates?|ators?|ional|ions?|ings?|ed|ers?|es|s|e)$/.exec(term) ?? [];
  if (ending) return `${begin}y`;
  return begin.replace(/([bdgmnprt])\1$/, '$1').replace(/scrip?t?$/, 'scrib').replace(/is$/, 'iz');
}

/** The sections that have a word or its like, with what it counts there and what of them was found. */
type Found = Map<number, { score: number; terms: string[] }>;

export class Index {
  readonly #search: MiniSearch<Section & { id: number }>;
  readonly #known = new Set<string>();
  readonly #size: number;

  constructor(sections: readonly Section[]) {
    this.#size = sections.length;
    this.#search = new MiniSearch({
      fields: ['h', 'p', 't'],
      storeFields: ['u', 'p', 'h', 't', 'r'],
      tokenize: words,
      processTerm: (term) => {
        if (STOP.has(term)) return null;
        const made = stem(term);
        this.#known.add(made);
        return made;
      },
      searchOptions: {
        processTerm: (term) => (STOP.has(term) ? null : stem(term)),
        boost: { h: 4, p: 2 },
        boostDocument: (_id, _term, section) => weight(section as unknown as Section),
        // Too much begins with "app".
        prefix: (term) => term.length > 3 || (term.length > 2 && !this.#known.has(term)),
        combineWith: 'AND',
      },
    });
    this.#search.addAll(sections.map((section, id) => ({ ...section, id })));
  }

  /** The sections that have most of what is asked for; best first. */
  find(question: string): Hit[] {
    const asked = [...new Set(wholeWords(question))].filter((word) => !STOP.has(word.toLowerCase())).slice(0, MAX_WORDS).map((word) => this.#spelled(word));
    const units = phrases(asked).map((unit) => this.#unit(unit)).filter((unit) => unit.size > 0);
    const rarity = (unit: Found) => Math.log(1 + this.#size / unit.size);
    const all = units.reduce((sum, unit) => sum + rarity(unit), 0);
    const phrase = question.toLowerCase();
    const hits = [...new Set(units.flatMap((unit) => [...unit.keys()]))].map((id) => {
      const own = units.filter((unit) => unit.has(id));
      const section = this.#search.getStoredFields(id) as unknown as Section;
      // What has all words comes before what has one of them many times.
      const share = own.reduce((sum, unit) => sum + rarity(unit), 0) / all;
      const score = own.reduce((sum, unit) => sum + unit.get(id)!.score, 0);
      return { ...section, terms: own.flatMap((unit) => unit.get(id)!.terms), score: score * share ** 2 * pasted(phrase, section) };
    });
    return hits.sort((a, b) => b.score - a.score).slice(0, MAX_HITS);
  }

  /** The word, or the one that is meant if neither this book nor the table of synonyms has anything like it. */
  #spelled(word: string): string {
    const typed = stem(word.toLowerCase());
    if (!/^[a-z]{5,29}$/.test(typed) || this.#isKnown(typed)) return word;
    let [best, bound] = [word, Math.floor(typed.length / 4) + 1];
    for (const known of [...this.#known, ...SAID.keys()]) {
      const far = distance(typed, known, bound);
      if (far < bound) [best, bound] = [known, far];
    }
    return best;
  }

  #isKnown(typed: string): boolean {
    for (const known of [...this.#known, ...SAID.keys()]) if (known.startsWith(typed)) return true;
    return false;
  }

  /** Where the words are, or what this book calls them. */
  #unit({ said, meant }: Unit): Found {
    const found: Found = new Map();
    const add = (query: string, share: number) => {
      for (const { id, score, terms, h, t } of this.#search.search(query)) {
        const counts = score * share * wordForWord(query.toLowerCase(), h, t);
        if (counts > (found.get(id)?.score ?? 0)) found.set(id, { score: counts, terms });
      }
    };
    add(said, 1);
    for (const synonym of meant) add(synonym, SYNONYM);
    return found;
  }
}

function weight({ u, r }: Section): number {
  const page = WEIGHTS.find(([begin]) => u.startsWith(begin))?.[1] ?? 1;
  return page * (r ? ROW : u.includes('#') ? 1 : PAGE);
}

/** Words count more where they are a heading, and several of them where they stand together. */
function wordForWord(query: string, heading: string, text: string): number {
  if (!query.includes(' ')) return heading.toLowerCase() === query ? 2 : 1;
  if (heading.toLowerCase().includes(query)) return 2;
  return text.toLowerCase().includes(query) ? 1.5 : 1;
}

/** Letters to add, drop, replace or swap to make one word of the other, or `bound` if it's as many. */
function distance(one: string, other: string, bound: number): number {
  if (Math.abs(one.length - other.length) >= bound) return bound;
  let [before, last, row] = [[] as number[], [] as number[], [...other, ''].map((_, at) => at)];
  for (let i = 1; i <= one.length; i++) {
    [before, last, row] = [last, row, [i]];
    for (let j = 1; j <= other.length; j++) {
      const same = one[i - 1] === other[j - 1];
      const isSwapped = i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1];
      row[j] = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1), isSwapped ? before[j - 2]! + 1 : bound);
    }
    if (Math.min(...row) >= bound) return bound;
  }
  return Math.min(row[other.length]!, bound);
}

/** A message or a name that is pasted is found where it stands word for word, first of all in the catalogue of errors. */
function pasted(phrase: string, { u, h, t }: Section): number {
  if (!/[\s_.]/.test(phrase)) return 1;
  if (h.toLowerCase() === phrase) return 20;
  return u.startsWith('errors#') && `${h} ${t}`.toLowerCase().includes(phrase) ? 10 : 1;
}

interface Unit {
  /** As typed. */
  said: string;
  /** Other words for it. */
  meant: readonly string[];
}

/** By the stems of what users say. */
const SAID = new Map(Object.entries(SYNONYMS).flatMap(([said, meant]) => said.split(', ').map((one) => [stemsOf(one), meant.split(', ')] as const)));

function stemsOf(text: string): string {
  return wholeWords(text.toLowerCase()).filter((word) => !STOP.has(word)).map(stem).join(' ');
}

/** Joins words that the table of synonyms has as one. */
function phrases(asked: readonly string[]): Unit[] {
  const units: Unit[] = [];
  for (let at = 0; at < asked.length; ) {
    const said = [3, 2, 1].map((length) => asked.slice(at, at + length).join(' ')).find((some) => SAID.has(stemsOf(some))) ?? asked[at]!;
    units.push({ said, meant: SAID.get(stemsOf(said)) ?? [] });
    at += said.split(' ').length;
  }
  return units;
}

/** The text around the first word that was found, and that word and its like. */
export function excerpt(text: string, terms: readonly string[]): { text: string; isFound: boolean }[] {
  const places = terms.map((term) => text.toLowerCase().indexOf(term)).filter((place) => place >= 0);
  const first = Math.max(0, Math.min(...(places.length > 0 ? places : [0])) - EXCERPT / 3);
  const start = first === 0 ? 0 : text.indexOf(' ', first) + 1;
  const part = `${start > 0 ? '… ' : ''}${text.slice(start, start + EXCERPT)}${text.length > start + EXCERPT ? ' …' : ''}`;
  const found = [...new Set(terms)].filter(Boolean).sort((a, b) => b.length - a.length).map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (found.length === 0) return [{ text: part, isFound: false }];
  return part.split(new RegExp(`((?<![\\p{L}\\p{N}])(?:${found.join('|')})[\\p{L}\\p{N}]*)`, 'iu')).map((piece, at) => ({ text: piece, isFound: at % 2 === 1 }));
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
  made.addEventListener('keydown', (event) => {
    // The first Escape would only empty the field.
    if (event.key === 'Escape' && !event.isComposing) made.close();
    else move(event, input, list);
  });
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
