// The admin API, with the types of its own description.
import { signal } from '@preact/signals';
import createClient from 'openapi-fetch';
import type { components, paths } from './schema';

export type Schemas = components['schemas'];
export type Me = Schemas['Me'];
export type Problem = Schemas['Problem'];

/** The folder of the page, without the last slash: a proxy may have put a prefix before it. */
export const BASE = new URL('.', location.href).href.replace(/\/$/, '');

/** What the server asks for on requests that change something, because pages of other sites can't send it. */
export const OWN_HEADER = { 'Fanfare-Dashboard': '1' };

/** Whether the server has answered that nobody is signed in (any more). */
export const signedOut = signal(false);

export const api = createClient<paths>({
  baseUrl: BASE,
  headers: OWN_HEADER,
  fetch: (request) => fetch(request, { credentials: 'same-origin' }),
});
api.use({
  onResponse({ response }) {
    noteStatus(response);
  },
});

function noteStatus(response: Response): void {
  if (response.status === 401 && !response.url.endsWith('/browser-sessions')) signedOut.value = true;
}

/** A request that failed, with what the server said. */
export class ApiError extends Error {
  override name = 'ApiError';
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** What a request answers with, or an `ApiError`. */
export async function take<T>(request: Promise<Answer<T>>): Promise<T> {
  return (await takeWithTag(request)).value;
}

/** The same with the entity tag, for `If-Match`. */
export async function takeWithTag<T>(request: Promise<Answer<T>>): Promise<{ value: T; tag: string }> {
  const { data, error, response } = await request.catch(unreachable);
  if (!response.ok) throw problem(response, error);
  return { value: data as T, tag: response.headers.get('etag') ?? '' };
}

/** Requests whose answers are read as text, and routes that this version of the server may lack. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { ...OWN_HEADER, ...(init.body ? { 'Content-Type': 'application/json' } : {}), ...init.headers };
  const response = await fetch(`${BASE}${path}`, { credentials: 'same-origin', ...init, headers }).catch(unreachable);
  noteStatus(response);
  if (response.ok) return response;
  const body: unknown = await response.json().catch(() => undefined);
  throw problem(response, body);
}

export async function requestJson<T>(path: string, init: RequestInit = {}): Promise<T> {
  const response = await request(path, init);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

function problem(response: Response, body: unknown): ApiError {
  const { code, detail, title } = (body ?? {}) as Partial<Problem>;
  return new ApiError(response.status, code ?? 'unknown', detail ?? title ?? `The server answered ${response.status}.`);
}

function unreachable(error: unknown): never {
  if (error instanceof DOMException && error.name === 'AbortError') throw error;
  throw new ApiError(0, 'unreachable', 'The server does not answer. Is it running, and does the network reach it?');
}
