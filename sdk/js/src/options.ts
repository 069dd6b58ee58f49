import type { AuthOptions } from './auth.js';
import type { BackoffOptions } from './backoff.js';
import type { Encryption } from './channel.js';
import { FanfareError } from './errors.js';
import type { TransportName } from './transports/transport.js';

/** As far as the SDK uses it. */
export interface WebSocketLike {
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  readonly readyState: number;
  readonly bufferedAmount?: number;
  send(text: string): void;
  close(code?: number): void;
}

export interface Options {
  /**
   * Where the server is: `https://realtime.example.com`, with a port and a path before `/app` if need be. Without it,
   * the page's own origin.
   */
  url?: string | URL | undefined;
  /** How private and presence channels are subscribed to, and who signs in. */
  auth?: AuthOptions | undefined;
  /** From `@fanfare/client/encrypted`, for channels that start with `private-encrypted-`. */
  encryption?: Encryption | undefined;
  /** Which transports are tried, in this order. Default: `['websocket', 'streaming', 'polling']`. */
  transports?: TransportName[] | undefined;
  /** A WebSocket class, where the platform has none (Node before 22). Default: the global one. */
  WebSocket?: (new (url: string) => WebSocketLike) | undefined;
  /** Default: the global one. */
  fetch?: typeof fetch | undefined;
  /** Whether to ask for what was missed after a lost connection. Default: true. */
  recover?: boolean | undefined;
  /** Disconnects for good when it aborts. */
  signal?: AbortSignal | undefined;
  /** Milliseconds of silence after which the server is asked whether it is there. Default: what the server says. */
  activityTimeout?: number | undefined;
  /** Milliseconds it has to answer. Default: 15,000. */
  pongTimeout?: number | undefined;
  /** Milliseconds for an attempt to connect over all transports. Default: 20,000. */
  connectTimeout?: number | undefined;
  /** Milliseconds without a connection after which the state is `unavailable`. Default: 10,000. */
  unavailableTimeout?: number | undefined;
  /** Milliseconds a transport may take before the next one is tried as well. Default: 3,000. */
  fallbackDelay?: number | undefined;
  /** Milliseconds for an answer of an auth endpoint or function. Default: 15,000. */
  authTimeout?: number | undefined;
  /** Default: the first retry within 1,000 ms, none later than 28,000 after the one before. */
  backoff?: Partial<BackoffOptions> | undefined;
}

/** Where the parts of the protocol are. */
export interface Endpoints {
  /** `wss://HOST/PREFIX`, before `/app/KEY`. */
  ws: string;
  /** `https://HOST/PREFIX`, before `/app/KEY`. */
  http: string;
  /** `https://HOST/PREFIX/pusher`, before `/app/KEY`. */
  fallback: string;
}

export interface Settings {
  key: string;
  endpoints: Endpoints;
  auth: AuthOptions;
  encryption: Encryption | undefined;
  transports: TransportName[];
  WebSocket: (new (url: string) => WebSocketLike) | undefined;
  fetch: typeof fetch;
  recover: boolean;
  activityTimeout: number;
  pongTimeout: number;
  connectTimeout: number;
  unavailableTimeout: number;
  fallbackDelay: number;
  authTimeout: number;
  backoff: BackoffOptions;
}

const DEFAULTS = {
  auth: {},
  transports: ['websocket', 'streaming', 'polling'],
  recover: true,
  activityTimeout: Infinity,
  pongTimeout: 15_000,
  connectTimeout: 20_000,
  unavailableTimeout: 10_000,
  fallbackDelay: 3_000,
  authTimeout: 15_000,
  backoff: { first: 1_000, max: 28_000 },
} satisfies Partial<Settings>;

export function settingsFrom(key: string, options: Options, endpoints = endpointsFrom(options.url)): Settings {
  const settings: any = { key, endpoints, ...DEFAULTS };
  for (const [name, value] of Object.entries(options)) if (value !== undefined) settings[name] = value;
  settings.backoff = { ...DEFAULTS.backoff, ...options.backoff };
  settings.WebSocket ??= globalThis.WebSocket;
  // Looked up for each call, as monitoring tools and tests replace it; browsers want it called on the global object.
  settings.fetch ??= (...all: Parameters<typeof fetch>) => globalThis.fetch(...all);
  return settings;
}

function endpointsFrom(given: string | URL | undefined): Endpoints {
  const text = String(given ?? globalThis.location?.origin ?? '');
  const match = /^(?:http|ws)(s?:\/\/[^?#]+?)\/*$/i.exec(text);
  if (!match) {
    throw new FanfareError('invalid_argument', `No server at ${text || 'no url'}: give { url: 'https://HOST' }`);
  }
  const [, rest] = match;
  return { ws: `ws${rest}`, http: `http${rest}`, fallback: `http${rest}/pusher` };
}
