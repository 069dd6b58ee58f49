// What the server says of an app while it happens.

export const KINDS = [
  'connected',
  'disconnected',
  'signed_in',
  'subscribed',
  'unsubscribed',
  'client_event',
  'publish',
  'cache_miss',
  'occupied',
  'vacated',
  'member_added',
  'member_removed',
  'webhook',
  'refused',
] as const;
export type Kind = (typeof KINDS)[number];

export const KIND_TITLES: Record<Kind, string> = {
  connected: 'connected',
  disconnected: 'disconnected',
  signed_in: 'signed in',
  subscribed: 'subscribed',
  unsubscribed: 'unsubscribed',
  client_event: 'client event',
  publish: 'published',
  cache_miss: 'cache miss',
  occupied: 'occupied',
  vacated: 'vacated',
  member_added: 'member added',
  member_removed: 'member removed',
  webhook: 'webhook',
  refused: 'refused',
};

/** A line of the live events, with what applies to its kind. */
export interface LiveLine {
  id: string;
  time_ms: number;
  node: string;
  kind: Kind;
  channel?: string;
  event?: string;
  data?: string;
  data_bytes?: number;
  data_truncated?: boolean;
  socket_id?: string;
  user_id?: string;
  key?: string;
  address?: string;
  transport?: string;
  client?: string;
  subscribers?: number;
  /** The kind of a refusal, as the log and the metrics name it. */
  refusal?: string;
  reason?: string;
  code?: number | string;
  webhook_id?: string;
  delivery?: string | number;
  status?: number;
  took_ms?: number;
}

export interface Hello {
  payloads: boolean;
  payloads_hidden_because: string | null;
  nodes: number;
}

/** What a row of the console shows: a line, or a number of lines that were left out. */
export type Row = { at: 'line'; line: LiveLine } | { at: 'more'; count: number; because: 'rate' | 'pause'; key: number };

/** The line in one sentence, for the list and for screen readers. */
export function summary(line: LiveLine): string {
  const parts: (string | false | undefined)[] = [];
  switch (line.kind) {
    case 'connected':
      parts.push(line.socket_id, line.client, line.transport, line.address && `from ${line.address}`);
      break;
    case 'disconnected':
      parts.push(line.socket_id, line.code !== undefined && String(line.code), line.reason);
      break;
    case 'publish':
      parts.push(line.event, line.subscribers !== undefined && `to ${line.subscribers} ${line.subscribers === 1 ? 'subscriber' : 'subscribers'}`, line.data);
      break;
    case 'client_event':
      parts.push(line.event, line.user_id ?? line.socket_id, line.data);
      break;
    case 'webhook':
      parts.push(line.event, line.webhook_id, line.status !== undefined && `answered ${line.status}`, line.took_ms !== undefined && `${line.took_ms} ms`, line.reason);
      break;
    case 'refused':
      parts.push(line.reason, line.event, line.code !== undefined && String(line.code));
      break;
    default:
      parts.push(line.user_id, line.socket_id, line.event, line.reason, line.data);
  }
  return parts.filter(Boolean).join(' · ');
}
