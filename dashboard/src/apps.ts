// The apps that the signed-in operator sees, for the navigation and the search.
import { signal } from '@preact/signals';
import { api, type Schemas, take } from './api/client';

export type App = Schemas['App'];

/** Newest answer of the list of apps; at most as many as a page has, because people search and don't scroll. */
export const apps = signal<App[]>([]);

/** The most apps that are loaded. */
export const APPS_KNOWN = 200;

export async function loadApps(): Promise<App[]> {
  const page = await take(api.GET('/api/v1/apps', { params: { query: { limit: APPS_KNOWN } } }));
  apps.value = page.items;
  return page.items;
}

export interface Demo {
  id: string;
  key: string;
}

/** The demo app, if this server has one and the page is opened on its machine. */
export const demo = signal<Demo | undefined>(undefined);

export async function loadDemo(base: string): Promise<void> {
  const response = await fetch(`${base}/demo/app`, { credentials: 'omit' }).catch(() => undefined);
  if (response?.ok && response.headers.get('content-type')?.includes('json')) demo.value = await response.json();
}
