// Which page an address shows, and the navigation.
import type { ComponentType } from 'preact';
import { AppOverview } from './pages/app';
import { Apps } from './pages/apps';
import { ConsolePage } from './pages/console';
import { Overview } from './pages/overview';
import type { Need } from './session';

export interface NavItem {
  path: string;
  title: string;
  /** Second key of the chord that starts with `g`. */
  chord?: string;
  need?: Need;
}

export const SERVER_PAGES: readonly NavItem[] = [
  { path: '', title: 'Overview', chord: 'o' },
  { path: 'apps', title: 'Apps', chord: 'a' },
];

export const APP_PAGES: readonly NavItem[] = [
  { path: '', title: 'App', chord: 'h' },
  { path: 'console', title: 'Live console', chord: 'c' },
  { path: 'sender', title: 'Sender', chord: 'e' },
  { path: 'channels', title: 'Channels', chord: 'k' },
  { path: 'connections', title: 'Connections', chord: 'i' },
  { path: 'explain', title: 'Why not delivered?', chord: 'y' },
  { path: 'keys', title: 'Keys', chord: 'd' },
];

// Parameters come as properties with the names of their places in the address.
type AnyPage = ComponentType<any>;
type Loader = () => Promise<AnyPage>;

interface Entry {
  pattern: readonly string[];
  load: Loader;
}

const page = (pattern: string, load: Loader): Entry => ({ pattern: pattern.split('/').filter(Boolean), load });

// Two files beside the first one: what is looked at, and what is administered.
const inspect = () => import('./pages/inspect');
const manage = () => import('./pages/manage');

export const PAGES: readonly Entry[] = [
  page('', async () => Overview),
  page('apps', async () => Apps),
  page('apps/:appId', async () => AppOverview),
  page('apps/:appId/console', async () => ConsolePage),
  page('apps/:appId/sender', async () => (await inspect()).Sender),
  page('apps/:appId/channels', async () => (await inspect()).Channels),
  page('apps/:appId/channels/:channel', async () => (await inspect()).ChannelPage),
  page('apps/:appId/connections', async () => (await inspect()).Connections),
  page('apps/:appId/connections/:socketId', async () => (await inspect()).ConnectionPage),
  page('apps/:appId/explain', async () => (await inspect()).Explain),
  page('apps/:appId/keys', async () => (await manage()).Keys),
];

export interface Match {
  load: Loader;
  params: Record<string, string>;
}

export function match(path: readonly string[]): Match | undefined {
  for (const { pattern, load } of PAGES) {
    if (pattern.length !== path.length) continue;
    const params: Record<string, string> = {};
    const fits = pattern.every((part, at) => {
      const given = path[at] as string;
      if (part.startsWith(':')) params[part.slice(1)] = given;
      return part.startsWith(':') || part === given;
    });
    if (fits) return { load, params };
  }
  return undefined;
}
