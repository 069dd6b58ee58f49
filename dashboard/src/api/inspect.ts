// Channels, connections and explanations, as the admin API describes them. Fields that only newer servers answer are optional.
import type { Schemas } from './client';
import { requestJson } from './client';
import { type Query, queryText } from '../router';
import type { PageOf } from '../ui/table';

export type Connection = Omit<Schemas['Connection'], 'channels'> & {
  channels: (string | { name: string; position?: string | null })[];
  node?: string;
  address?: string | null;
  client?: string | null;
  client_version?: string | null;
  bytes_in?: number;
  bytes_out?: number;
  messages_in?: number;
  messages_out?: number;
  waiting_bytes_peak?: number;
  round_trip_ms?: number | null;
  recent?: { at: number; what: string }[];
};

export type Channel = Schemas['Channel'] & {
  cache?: { event: string; age?: number; age_ms?: number; data?: string | null } | null;
  history?: { rule: { channels: string; size: number; ttl: number } | null; oldest?: string | null; newest?: string | null } | null;
  events_per_minute?: number | null;
};

export interface HistoryEvent {
  position: string;
  name: string;
  data?: string | null;
  data_bytes?: number;
  time?: number;
  time_ms?: number;
  user_id?: string | null;
}

export interface HistoryPage {
  events?: HistoryEvent[];
  items?: HistoryEvent[];
  more?: boolean;
  position?: string;
  next_cursor?: string | null;
}

export interface Subscriber {
  socket_id: string;
  user_id?: string | null;
  node?: string;
}

export interface Explanation {
  answer: string;
  evidence: { at: number | null; what: string }[];
  verdict: string;
}

const app = (appId: string) => `/api/v1/apps/${encodeURIComponent(appId)}`;

export type ListOf<T> = PageOf<T> & { unanswered?: string[] };

export function loadConnections(appId: string, filters: Query): Promise<ListOf<Connection>> {
  return requestJson(`${app(appId)}/connections?${queryText(filters)}`);
}

export function loadConnection(appId: string, socketId: string): Promise<Connection> {
  return requestJson(`${app(appId)}/connections/${encodeURIComponent(socketId)}`);
}

export function loadChannel(appId: string, channel: string): Promise<Channel> {
  return requestJson(`${app(appId)}/channels/${encodeURIComponent(channel)}`);
}

export function loadHistory(appId: string, channel: string, query: Query): Promise<HistoryPage> {
  return requestJson(`${app(appId)}/channels/${encodeURIComponent(channel)}/history?${queryText(query)}`);
}

export function loadSubscribers(appId: string, channel: string, cursor: string | undefined): Promise<ListOf<Subscriber>> {
  return requestJson(`${app(appId)}/channels/${encodeURIComponent(channel)}/subscribers?${queryText({ cursor })}`);
}

export function explain(appId: string, query: Query): Promise<Explanation> {
  return requestJson(`${app(appId)}/explain?${queryText(query)}`);
}
