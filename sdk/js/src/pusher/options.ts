import type { Encryption } from '../channel.js';
import { FanfareError } from '../errors.js';
import type { Endpoints, Options as CoreOptions, WebSocketLike } from '../options.js';
import type { TransportName } from '../transports/transport.js';
import type { AuthenticationOptions, DeprecatedAuthorizer } from './auth.js';

export type Transport = 'ws' | 'wss' | 'xhr_streaming' | 'xhr_polling' | 'sockjs';

/** The options of pusher-js 8, and Fanfare's own. */
export interface Options {
  cluster?: string;
  forceTLS?: boolean;
  wsHost?: string;
  wsPort?: number;
  wssPort?: number;
  wsPath?: string;
  httpHost?: string;
  httpPort?: number;
  httpsPort?: number;
  httpPath?: string;
  enabledTransports?: Transport[];
  disabledTransports?: Transport[];
  /** Milliseconds. */
  activityTimeout?: number;
  /** Milliseconds. */
  pongTimeout?: number;
  /** Milliseconds. */
  unavailableTimeout?: number;
  channelAuthorization?: AuthenticationOptions;
  userAuthentication?: AuthenticationOptions;
  /** Deprecated in pusher-js: use `channelAuthorization`. */
  auth?: { params?: any; headers?: any };
  /** Deprecated in pusher-js: use `channelAuthorization`. */
  authEndpoint?: string;
  /** Deprecated in pusher-js: use `channelAuthorization`. */
  authTransport?: 'ajax' | 'jsonp';
  /** Deprecated in pusher-js: use `channelAuthorization`. */
  authorizer?: DeprecatedAuthorizer;
  /** The `tweetnacl` module, for channels that start with `private-encrypted-`. */
  nacl?: { secretbox: { open(box: Uint8Array, nonce: Uint8Array, key: Uint8Array): Uint8Array | null } };
  /** Without effect: there are no statistics. */
  enableStats?: boolean;
  /** Without effect: there are no statistics. */
  disableStats?: boolean;
  /** Without effect: there are no statistics. */
  statsHost?: string;
  /** Without effect: there are no statistics. */
  timelineParams?: any;
  /** Without effect: there is no SockJS. */
  ignoreNullOrigin?: boolean;
  /** Not in pusher-js: a WebSocket class, if the platform has none. */
  WebSocket?: new (url: string) => WebSocketLike;
  /** Not in pusher-js: whether to ask for missed events after a lost connection. Default: true. */
  recover?: boolean;
  /** Not in pusher-js: limits of the delay between attempts to connect. */
  backoff?: CoreOptions['backoff'];
}

export function usesTls({ forceTLS }: Options): boolean {
  return globalThis.location?.protocol === 'https:' || forceTLS !== false;
}

export function endpointsOf(options: Options): Endpoints {
  const { cluster, wsPath = '', httpPath = '/pusher', wsPort = 80, wssPort = 443, httpPort, httpsPort } = options;
  const tls = usesTls(options);
  const host = options.wsHost ?? `ws-${cluster}.pusher.com`;
  const s = tls ? 's' : '';
  const wsAddress = `${host}:${tls ? wssPort : wsPort}`;
  // pusher-js would use hosted Pusher's fallbacks. Fanfare's are on the WebSocket's host.
  const httpAddress = options.httpHost
    ? `${options.httpHost}:${(tls ? httpsPort : httpPort) ?? (tls ? 443 : 80)}`
    : wsAddress;
  return {
    ws: `ws${s}://${wsAddress}${wsPath}`,
    http: `http${s}://${wsAddress}${wsPath}`,
    fallback: `http${s}://${httpAddress}${options.httpHost ? '' : wsPath}${httpPath}`,
  };
}

export function coreOptionsOf(options: Options, encryption: Encryption | undefined): CoreOptions {
  const { activityTimeout, pongTimeout, unavailableTimeout, WebSocket, recover, backoff } = options;
  return {
    transports: transportsOf(options),
    encryption,
    activityTimeout,
    pongTimeout,
    unavailableTimeout,
    WebSocket,
    recover,
    backoff,
  };
}

export function validate(key: unknown, options: Options | undefined): asserts options is Options {
  if (!key) throw new FanfareError('invalid_argument', 'You must pass your app key when you instantiate Pusher');
  if (!options) throw new FanfareError('invalid_argument', 'You must pass an options object');
  if (options.cluster === undefined && !options.wsHost) {
    throw new FanfareError('invalid_argument', 'Options object must provide a cluster, or the wsHost of your server');
  }
}

function transportsOf({ enabledTransports, disabledTransports = [] }: Options): TransportName[] {
  const names: [TransportName, Transport[]][] = [
    ['websocket', ['ws', 'wss']],
    ['streaming', ['xhr_streaming']],
    ['polling', ['xhr_polling']],
  ];
  return names
    .filter(([, theirs]) =>
      theirs.some((it) => (enabledTransports?.includes(it) ?? true) && !disabledTransports.includes(it)),
    )
    .map(([name]) => name);
}
