import { authorize, type AuthOptions, type ChannelAuth, type UserAuth } from '../auth.js';
import { FanfareError } from '../errors.js';
import type { Settings } from '../options.js';
import type { Options } from './options.js';

type Callback<Answer> = (error: Error | null, data: Answer | null) => void;

export interface AuthenticationOptions {
  endpoint?: string;
  transport?: 'ajax' | 'jsonp';
  params?: any;
  headers?: any;
  paramsProvider?: () => any;
  headersProvider?: () => any;
  customHandler?: (request: any, callback: Callback<any>) => void;
}

export type DeprecatedAuthorizer = (
  channel: any,
  options: { authTransport: 'ajax' | 'jsonp'; authEndpoint: string; auth?: { params?: any; headers?: any } },
) => { authorize(socketId: string, callback: Callback<ChannelAuth>): void };

/**
 * Translates the auth options of pusher-js for the underlying client. `channel` finds a channel for the deprecated
 * `authorizer`.
 */
export function authOf(options: Options, settings: () => Settings, channel: (name: string) => unknown): AuthOptions {
  const forChannels = channelOptions(options);
  const forUsers = { endpoint: '/pusher/user-auth', ...options.userAuthentication };
  [forChannels, forUsers].forEach(refuseJsonp);
  const { authorizer } = options;
  if (authorizer && !options.channelAuthorization) {
    const { endpoint: authEndpoint = '', params, headers } = forChannels;
    const given = { authTransport: 'ajax' as const, authEndpoint, auth: { params, headers } };
    forChannels.customHandler = ({ channelName, socketId }, callback) =>
      authorizer(channel(channelName), given).authorize(socketId, callback);
  }
  return {
    channel: (request) =>
      forChannels.customHandler
        ? promised<ChannelAuth>((done) => forChannels.customHandler!(request, done))
        : authorize({ ...settings(), auth: endpointOf('endpoint', forChannels) }, request),
    user: (request) =>
      forUsers.customHandler
        ? promised<UserAuth>((done) => forUsers.customHandler!(request, done))
        : authorize({ ...settings(), auth: endpointOf('userEndpoint', forUsers) }, request),
  };
}

/** Returns `error` as pusher-js reports it, with the handler's own message if there is one. */
export function authError({ message, status, cause }: FanfareError) {
  const error = cause instanceof Error ? cause.message : message;
  return { type: 'AuthError', error, ...(status !== undefined && { status }) };
}

function channelOptions(options: Options): AuthenticationOptions {
  const endpoint = '/pusher/auth';
  if (options.channelAuthorization) return { endpoint, ...options.channelAuthorization };
  const { auth, authEndpoint, authTransport } = options;
  return { endpoint: authEndpoint ?? endpoint, transport: authTransport ?? 'ajax', ...auth };
}

function endpointOf(name: 'endpoint' | 'userEndpoint', options: AuthenticationOptions): AuthOptions {
  const { endpoint, params, headers, paramsProvider, headersProvider } = options;
  return {
    [name]: endpoint,
    params: () => ({ ...params, ...paramsProvider?.() }),
    headers: () => ({ ...headers, ...headersProvider?.() }),
  };
}

function promised<Answer>(start: (callback: Callback<Answer>) => void): Promise<Answer> {
  return new Promise((resolve, reject) => {
    start((error, answer) => (error ? reject(error) : resolve(answer!)));
  });
}

function refuseJsonp({ transport }: AuthenticationOptions): void {
  if (transport !== 'jsonp') return;
  throw new FanfareError(
    'unsupported',
    "The auth transport 'jsonp' is not supported: use 'ajax', with CORS on the endpoint",
  );
}
