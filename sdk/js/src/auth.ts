import { isTemporary, retryAfter } from './auth-retry.js';
import { messageOf, FanfareError, type ErrorDetails } from './errors.js';
import { parse } from './protocol.js';
import type { Settings } from './options.js';

export interface ChannelAuthRequest {
  socketId: string;
  channelName: string;
  /** Aborts when the answer is no longer wanted. */
  signal: AbortSignal;
}

export type UserAuthRequest = Omit<ChannelAuthRequest, 'channelName'>;

/** What auth endpoints of Pusher's server SDKs answer. */
export interface ChannelAuth {
  auth: string;
  channel_data?: string | undefined;
  shared_secret?: string | undefined;
}

export interface UserAuth {
  auth: string;
  user_data: string;
}

type Given<T> = T | (() => T | Promise<T>);

/**
 * Of the three, the first that is there is used: functions, then the app's own endpoint, then the server's
 * (`POST /app/KEY/auth`) with the user's token.
 */
export interface AuthOptions {
  /** Answers for a channel in whatever way; throws to refuse. */
  channel?: ((request: ChannelAuthRequest) => ChannelAuth | Promise<ChannelAuth>) | undefined;
  /** Answers for `signin()`. */
  user?: ((request: UserAuthRequest) => UserAuth | Promise<UserAuth>) | undefined;
  /** The app's own endpoint for channels. */
  endpoint?: string | undefined;
  /** The app's own endpoint for `signin()`. */
  userEndpoint?: string | undefined;
  /** Sent to endpoints. A function is called for each request. */
  headers?: Given<Record<string, string>> | undefined;
  /** Form fields sent to endpoints beside those of the protocol. A function is called for each request. */
  params?: Given<Record<string, string>> | undefined;
  /** Whether endpoints of other origins get cookies. */
  credentials?: RequestCredentials | undefined;
  /**
   * The user's token (JWT) of the app's identity provider. A function is called for each request, and once more with
   * `expired: true` when the server has refused what it gave.
   */
  token?: string | ((asked: { expired: boolean }) => string | Promise<string>) | undefined;
}

/** Auth for a channel, or for the sign-in if the request names none. */
export async function authorize(settings: Settings, request: ChannelAuthRequest): Promise<ChannelAuth>;
export async function authorize(settings: Settings, request: UserAuthRequest): Promise<UserAuth>;
export async function authorize(
  { auth, authTimeout, endpoints, fetch, key }: Settings,
  request: UserAuthRequest & { channelName?: string },
): Promise<any> {
  const { token, headers, params, credentials = 'same-origin' } = auth;
  const { channelName: channel, socketId, signal } = request;
  const custom = (channel ? auth.channel : auth.user) as ((request: any) => unknown) | undefined;
  const endpoint = channel ? auth.endpoint : auth.userEndpoint;

  const fail = (problem: string, { status, retrying = isTemporary(status), ...more }: ErrorDetails = {}) =>
    new FanfareError('auth_failed', `Auth for ${channel ?? 'sign-in'}: ${problem}`, { channel, status, retrying, ...more });

  let asked = '';
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const problem = `no answer within ${authTimeout} ms`;
    timer = setTimeout(() => reject(fail(asked + problem, { retrying: true })), authTimeout);
    signal.addEventListener('abort', () => clearTimeout(timer));
  });

  const post = async (url: string, more?: Record<string, string>, fields?: Record<string, string>) => {
    asked = `${url}: `;
    const form = { ...fields, socket_id: socketId, ...(channel && { channel_name: channel }) };
    let status: number;
    let text: string;
    let wait: string | null | undefined;
    try {
      const response = await fetch(url, {
        method: 'POST',
        body: Object.entries(form)
          .map((pair) => pair.map(encodeURIComponent).join('='))
          .join('&'),
        headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...more },
        signal,
        credentials,
      });
      status = response.status;
      wait = response.headers?.get('Retry-After');
      text = await response.text();
    } catch (cause) {
      throw fail(asked + messageOf(cause), { cause, retrying: true });
    }
    const answer = status === 200 ? parse(text) : undefined;
    if (answer !== undefined) return answer;
    throw fail(`${url} answered ${status} ${text.slice(0, 200)}`, { status, retryAfter: retryAfter(wait) });
  };

  const withToken = async (expired: boolean) => {
    const bearer = typeof token === 'function' ? await token({ expired }) : token;
    return post(`${endpoints.http}/app/${key}/${channel ? '' : 'user-'}auth`, { Authorization: `Bearer ${bearer}` });
  };

  const ask = async (): Promise<any> => {
    if (custom) return custom(request);
    if (endpoint) return post(endpoint, await given(headers), await given(params));
    if (!token) throw fail('give auth.token, or an endpoint or a function in auth');
    return withToken(false).catch((error) => {
      if (error.status === 401 && typeof token === 'function') return withToken(true);
      throw error;
    });
  };

  let answer: any;
  try {
    answer = await Promise.race([ask(), late]);
  } catch (cause) {
    if (cause instanceof FanfareError) throw cause;
    throw fail(messageOf(cause), { cause, status: (cause as any)?.status });
  } finally {
    clearTimeout(timer);
  }
  if (!answer?.auth) throw fail(`expected {"auth":"KEY:SIGNATURE"}, got ${JSON.stringify(answer)}`);
  return answer;
}

async function given(value: Given<Record<string, string>> | undefined): Promise<Record<string, string> | undefined> {
  return typeof value === 'function' ? value() : value;
}
