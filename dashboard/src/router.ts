// Where the page is: the part of the address behind #, so that the server's own paths stay free and a proxy may add a prefix.
import { signal } from '@preact/signals';

export interface Route {
  path: string[];
  query: URLSearchParams;
}

export function parseRoute(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  return { path: path.split('/').filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

/** A part that is no valid encoding stays as it is. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export type Query = Record<string, string | number | null | undefined>;

export function href(path: readonly string[], query: Query = {}): string {
  const text = queryText(query);
  return `#/${path.map(encodeURIComponent).join('/')}${text && `?${text}`}`;
}

/** A query without the empty values. */
export function queryText(query: Query): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') params.set(name, String(value));
  }
  return params.toString();
}

export const route = signal(parseRoute(location.hash));

addEventListener('hashchange', () => {
  route.value = parseRoute(location.hash);
});

export function go(target: string): void {
  location.hash = target;
}

/** Changes parameters of the current view without a step in the browser's history. An empty value removes one. */
export function setQuery(change: Query): void {
  const { path, query } = route.peek();
  const target = href(path, { ...Object.fromEntries(query), ...change });
  history.replaceState(null, '', target);
  route.value = parseRoute(target);
}
