// The settings of an app as a form shows them, and what to send for what was changed.
import { FACTS } from './api/facts';
import type { Schemas } from './api/client';

type App = Schemas['App'];
type Rule = Schemas['HistoryRule'];

export interface Form {
  name: string;
  flags: Record<string, boolean>;
  origins: string;
  clientEventChannels: string;
  socketIoBroadcast: string;
  history: string;
  limits: Record<string, string>;
  quotas: Record<string, string>;
}

export function formOf({ name, settings }: App): Form {
  const texts = (values: Record<string, number>) => Object.fromEntries(Object.entries(values).map(([key, value]) => [key, String(value)]));
  const flags = Object.keys(FACTS.settings).map((key) => [key, settings[key as keyof typeof FACTS.settings]]);
  return {
    name,
    flags: Object.fromEntries(flags),
    origins: settings.allowed_origins.join('\n'),
    clientEventChannels: settings.client_event_channels.join('\n'),
    socketIoBroadcast: settings.socket_io.broadcast.join('\n'),
    history: settings.history.map(lineOf).join('\n'),
    limits: texts(settings.limits),
    quotas: texts(settings.quotas),
  };
}

function lineOf({ channels, size, ttl }: Rule): string {
  return `${channels} ${size} ${ttl}`;
}

function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
}

/** The rules of a history, or what is wrong with a line. */
export function rulesOf(text: string): Rule[] | string {
  const rules: Rule[] = [];
  for (const line of linesOf(text)) {
    const [channels, size, ttl, ...rest] = line.split(/\s+/);
    if (!channels || !isWhole(size) || !isWhole(ttl) || rest.length > 0) {
      return `The history rule “${line}” must be a pattern, a number of events and seconds, for example “room-* 100 3600”.`;
    }
    rules.push({ channels, size: Number(size), ttl: Number(ttl) });
  }
  return rules;
}

function isWhole(text: string | undefined): boolean {
  return text !== undefined && /^\d+$/.test(text);
}

/** What can't be sent, if anything. The server checks the rest. */
export function problemOf(form: Form): string | undefined {
  if (!form.name.trim()) return 'The app needs a name.';
  const rules = rulesOf(form.history);
  if (typeof rules === 'string') return rules;
  for (const [name, value] of [...Object.entries(form.limits), ...Object.entries(form.quotas)]) {
    if (!isWhole(value)) return `${name}: “${value}” is not a whole number.`;
  }
  return undefined;
}

/** What differs, as the body of a request. */
export function changes(before: Form, after: Form): Schemas['UpdateApp'] {
  const settings: Record<string, unknown> = {};
  for (const [name, on] of Object.entries(after.flags)) if (on !== before.flags[name]) settings[name] = on;
  if (after.origins !== before.origins) settings.allowed_origins = linesOf(after.origins);
  if (after.clientEventChannels !== before.clientEventChannels) settings.client_event_channels = linesOf(after.clientEventChannels);
  if (after.socketIoBroadcast !== before.socketIoBroadcast) settings.socket_io = { broadcast: linesOf(after.socketIoBroadcast) };
  if (after.history !== before.history) settings.history = rulesOf(after.history);
  for (const group of ['limits', 'quotas'] as const) {
    const changed = Object.entries(after[group]).filter(([name, value]) => value !== before[group][name]);
    if (changed.length > 0) settings[group] = Object.fromEntries(changed.map(([name, value]) => [name, Number(value)]));
  }
  return {
    ...(after.name !== before.name ? { name: after.name.trim() } : {}),
    ...(Object.keys(settings).length > 0 ? { settings: settings as Schemas['AppSettingsPatch'] } : {}),
  };
}
