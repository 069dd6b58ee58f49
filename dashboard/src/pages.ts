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
  /** Where the documentation explains it. */
  chapter: string;
}

const page = (pattern: string, load: Loader, chapter: string): Entry => ({ pattern: pattern.split('/').filter(Boolean), load, chapter });

// Two files beside the first one: what is looked at, and what is administered.
const inspect = () => import('./pages/inspect');
const manage = () => import('./pages/manage');

export const PAGES: readonly Entry[] = [
  page('', async () => Overview, 'docs/dashboard.md#overview'),
  page('apps', async () => Apps, 'docs/dashboard.md#apps'),
  page('apps/:appId', async () => AppOverview, 'docs/dashboard.md#app'),
  page('apps/:appId/console', async () => ConsolePage, 'docs/live-events.md'),
  page('apps/:appId/sender', async () => (await inspect()).Sender, 'docs/dashboard.md#sender'),
  page('apps/:appId/channels', async () => (await inspect()).Channels, 'docs/channels.md'),
  page('apps/:appId/channels/:channel', async () => (await inspect()).ChannelPage, 'docs/dashboard.md#one-channel'),
  page('apps/:appId/connections', async () => (await inspect()).Connections, 'docs/dashboard.md#connections'),
  page('apps/:appId/connections/:socketId', async () => (await inspect()).ConnectionPage, 'docs/dashboard.md#one-connection'),
  page('apps/:appId/explain', async () => (await inspect()).Explain, 'docs/answers.md#why-did-an-event-not-arrive'),
  page('apps/:appId/webhooks', async () => (await manage()).Webhooks, 'docs/webhooks.md'),
  page('apps/:appId/webhooks/:webhookId', async () => (await manage()).WebhookPage, 'docs/dashboard.md#one-webhook'),
  page('apps/:appId/webhooks/:webhookId/deliveries/:sequence', async () => (await manage()).DeliveryPage, 'docs/dashboard.md#one-delivery'),
  page('apps/:appId/usage', async () => (await manage()).Usage, 'docs/usage.md'),
  page('apps/:appId/keys', async () => (await manage()).Keys, 'docs/keys.md#an-apps-key'),
  page('apps/:appId/identity', async () => (await manage()).Identity, 'docs/channel-auth.md#what-an-app-configures'),
  page('apps/:appId/settings', async () => (await manage()).Settings, 'docs/configuration.md#settings-of-an-app'),
  page('nodes', async () => (await manage()).Nodes, 'docs/clustering.md'),
  page('alerts', async () => (await manage()).Alerts, 'docs/alerts.md'),
  page('operators', async () => (await manage()).Operators, 'docs/dashboard.md#operators'),
  page('tokens', async () => (await manage()).Tokens, 'docs/keys.md#an-api-token'),
  page('sessions', async () => (await manage()).Sessions, 'docs/dashboard.md#sessions'),
  page('audit', async () => (await manage()).Audit, 'docs/dashboard.md#audit-log'),
  page('configuration', async () => (await import('./pages/configuration')).Configuration, 'docs/configuration.md'),
];

export interface Match {
  load: Loader;
  chapter: string;
  params: Record<string, string>;
}

export function match(path: readonly string[]): Match | undefined {
  for (const { pattern, load, chapter } of PAGES) {
    if (pattern.length !== path.length) continue;
    const params: Record<string, string> = {};
    const fits = pattern.every((part, at) => {
      const given = path[at] as string;
      if (part.startsWith(':')) params[part.slice(1)] = given;
      return part.startsWith(':') || part === given;
    });
    if (fits) return { load, chapter, params };
  }
  return undefined;
}
