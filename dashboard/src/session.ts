// Who is signed in, and what they may do.
import { computed, signal } from '@preact/signals';
import { api, ApiError, type Me, signedOut, take } from './api/client';

/** `undefined` until the server has answered, `null` if nobody is signed in. */
export const me = signal<Me | null | undefined>(undefined);
/** Why the session could not be asked for. */
export const meError = signal<ApiError | undefined>(undefined);

signedOut.subscribe((out) => {
  if (out) me.value = null;
});

export async function loadMe(): Promise<void> {
  meError.value = undefined;
  try {
    const answer = await take(api.GET('/api/v1/me'));
    signedOut.value = false;
    me.value = answer;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) me.value = null;
    else meError.value = error as ApiError;
  }
}

export async function signIn(body: { name: string; password: string } | { link: string }): Promise<void> {
  await take(api.POST('/api/v1/browser-sessions', { body }));
  const answer = await take(api.GET('/api/v1/me'));
  signedOut.value = false;
  me.value = answer;
}

export async function signOut(): Promise<void> {
  await take(api.DELETE('/api/v1/sessions/{session_id}', { params: { path: { session_id: 'current' } } }));
  me.value = null;
}

/** What an action asks of its caller, in the words of the API's documentation. */
export type Need = 'app-admin' | 'some-admin' | 'admin-of-all' | 'owner' | 'sight-of-all' | 'person';

const RANK = { viewer: 0, admin: 1, owner: 2 } as const;

/** Why the signed-in operator may not do something, or `undefined` if they may. */
export function whyNot(need: Need): string | undefined {
  const who = me.value;
  return who ? reasonAgainst(who, need) : 'Sign in first.';
}

export function reasonAgainst(who: Me, need: Need): string | undefined {
  const role = need === 'owner' ? 'owner' : need === 'sight-of-all' || need === 'person' ? 'viewer' : 'admin';
  if (need === 'person' && who.kind === 'token') return 'API tokens may not do this; sign in as an operator.';
  if (RANK[who.role] < RANK[role]) return `This needs the role ${role}; you are ${who.role === 'viewer' ? 'a viewer' : `an ${who.role}`}.`;
  const ofAll = need === 'owner' || need === 'admin-of-all' || need === 'sight-of-all';
  if (ofAll && who.apps) return `This needs rights on all apps; yours end at ${listed(who.apps)}.`;
  return undefined;
}

function listed(apps: string[]): string {
  return apps.length === 1 ? `the app ${apps[0]}` : `${apps.length} apps`;
}

export const seesAllApps = computed(() => me.value?.apps === null);
