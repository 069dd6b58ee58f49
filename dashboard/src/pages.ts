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
  { path: 'nodes', title: 'Nodes', chord: 'n', need: 'sight-of-all' },
  { path: 'alerts', title: 'Alerts', chord: 'l' },
  { path: 'operators', title: 'Operators', chord: 'p', need: 'owner' },
  { path: 'tokens', title: 'API tokens', chord: 't' },
  { path: 'sessions', title: 'Sessions', chord: 's' },
  { path: 'audit', title: 'Audit log', chord: 'u', need: 'some-admin' },
  { path: 'configuration', title: 'Configuration', chord: 'f', need: 'admin-of-all' },
];

export const APP_PAGES: readonly NavItem[] = [
  { path: '', title: 'App', chord: 'h' },
  { path: 'console', title: 'Live console', chord: 'c' },
  { path: 'sender', title: 'Sender', chord: 'e' },
  { path: 'channels', title: 'Channels', chord: 'k' },
  { path: 'connections', title: 'Connections', chord: 'i' },
  { path: 'explain', title: 'Why not delivered?', chord: 'y' },
  { path: 'webhooks', title: 'Webhooks', chord: 'w' },
  { path: 'usage', title: 'Usage and quotas', chord: 'b' },
  { path: 'keys', title: 'Keys', chord: 'd' },
  { path: 'identity', title: 'Identity', chord: 'j' },
  { path: 'settings', title: 'Settings', chord: 'x' },
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
  page('apps/:appId/webhooks', async () => (await manage()).Webhooks),
  page('apps/:appId/webhooks/:webhookId', async () => (await manage()).WebhookPage),
  page('apps/:appId/webhooks/:webhookId/deliveries/:sequence', async () => (await manage()).DeliveryPage),
  page('apps/:appId/usage', async () => (await manage()).Usage),
  page('apps/:appId/keys', async () => (await manage()).Keys),
  page('apps/:appId/identity', async () => (await manage()).Identity),
  page('apps/:appId/settings', async () => (await manage()).Settings),
  page('nodes', async () => (await manage()).Nodes),
  page('alerts', async () => (await manage()).Alerts),
  page('operators', async () => (await manage()).Operators),
  page('tokens', async () => (await manage()).Tokens),
  page('sessions', async () => (await manage()).Sessions),
  page('audit', async () => (await manage()).Audit),
  page('configuration', async () => (await import('./pages/configuration')).Configuration),
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
