// Messages that this browser keeps.
import { stored, store } from '../storage';
import { type Draft, EMPTY } from './message';

export interface Snippet {
  name: string;
  draft: Draft;
}

export const MAX_SNIPPETS = 50;
const NAME = 'snippets';

/** What was kept. Whatever else is in the browser's storage is left out. */
export function loadSnippets(): Snippet[] {
  try {
    const list: unknown = JSON.parse(stored(NAME) ?? '[]');
    if (!Array.isArray(list)) return [];
    return list.filter(isSnippet).map(({ name, draft }) => ({ name, draft: { ...EMPTY, ...draft } }));
  } catch {
    return [];
  }
}

function isSnippet(value: unknown): value is Snippet {
  const { name, draft } = (value ?? {}) as Partial<Snippet>;
  return typeof name === 'string' && typeof draft === 'object' && draft !== null && Object.values(draft).every((it) => typeof it === 'string');
}

/** Puts a snippet first, in the place of one with its name. Returns `undefined` if the browser keeps no more. */
export function keepSnippet(snippet: Snippet): Snippet[] | undefined {
  const list = [snippet, ...loadSnippets().filter(({ name }) => name !== snippet.name)].slice(0, MAX_SNIPPETS);
  return store(NAME, JSON.stringify(list)) ? list : undefined;
}

export function dropSnippet(name: string): Snippet[] {
  const list = loadSnippets().filter((snippet) => snippet.name !== name);
  store(NAME, JSON.stringify(list));
  return list;
}
