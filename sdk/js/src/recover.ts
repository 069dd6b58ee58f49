import { isTemporary, retryAfter } from './auth-retry.js';

/** The parts that are used of pusher-js 7 or later, which is also what `echo.connector.pusher` of Laravel Echo is. */
export interface PusherLike {
  connection: {
    state: string;
    socket_id: string;
    connection: any;
    bind(event: string, listener: () => void): unknown;
  };
  user?: any;
  config?: any;
  channel(name: string): any;
  send_event(event: string, data: any, channel?: string): boolean;
}

// How long an auth endpoint may take to answer, in milliseconds.
const ANSWER_TIMEOUT = 15_000;
// First and largest limit of the delay before an auth endpoint is asked again, in milliseconds. It doubles with each
// failure.
const FIRST = 1_000;
const MAX = 30_000;

/**
 * Lets an instance of pusher-js recover missed events after a lost connection. Call it right after `new Pusher(...)`.
 * If events may be missing all the same, the channel gets an event `fanfare:gap` with `{ reason }`. An auth endpoint
 * that answers 408, 429 or 5xx, can't be reached or doesn't answer is asked again; pusher-js alone asks once for each
 * connection.
 */
export function recover<Instance extends PusherLike>(pusher: Instance): Instance {
  const { config, connection } = pusher;
  const send = pusher.send_event;
  // By channel object: a channel that is subscribed to again after `unsubscribe()` is another object, and has missed
  // nothing.
  const reached = new WeakMap<object, { name: string; position: string; socket_id: string }>();
  const find = (name: string) => pusher.channel(name) || pusher.user?.serverToUserChannel;
  // pusher-js makes a new object for the user's channel with each sign-in.
  const holder = (name: string) => (name[0] === '#' ? pusher.user : pusher.channel(name));

  pusher.send_event = (event, data, channel) => {
    if (event === 'pusher:subscribe') {
      const last = reached.get(holder(data.channel) ?? pusher);
      const known = last?.name === data.channel && { position: last!.position, socket_id: last!.socket_id };
      data = { ...data, recover: known || true };
    }
    return send.call(pusher, event, data, channel);
  };

  const read = ({ data: text }: { data: string }) => {
    try {
      const { event, channel: name, data, position: top } = JSON.parse(text);
      const about = event === 'pusher_internal:subscription_succeeded' ? JSON.parse(data) : {};
      const position = top ?? about.position;
      const channel = holder(name);
      if (!channel) return;
      if (position !== undefined) reached.set(channel, { name, position, socket_id: connection.socket_id });
      // Emitted after the listeners of the subscription itself have run.
      if (about.recovered === false)
        Promise.resolve().then(() => find(name)?.emit('fanfare:gap', { reason: about.reason }));
    } catch {
      // pusher-js reports what cannot be read.
    }
  };

  // Frames are read as they arrive, because pusher-js drops unknown fields when it decodes them; and before pusher-js
  // calls the application, whose errors would end it.
  const listen = () => {
    const { transport } = connection.connection;
    transport.bind('message', read);
    const listeners = transport.callbacks?.get?.('message');
    listeners?.unshift(listeners.pop());
  };

  let failures: Record<string, number> = {};
  const again = ({ socketId, channelName = '' }: AuthRequest, wait = 0) => {
    const delay = wait + Math.random() * Math.min(MAX, FIRST * 2 ** (failures[channelName] ??= 0));
    failures[channelName]! += 1;
    later(delay, () => {
      const { user } = pusher;
      const channel = pusher.channel(channelName);
      // On another connection, pusher-js has asked by itself.
      if (connection.state !== 'connected' || connection.socket_id !== socketId) return;
      if (channel && !channel.subscriptionPending && !channel.subscriptionCancelled) channel.subscribe();
      if (channelName || !user.signin_requested || user.user_data) return;
      user.signin_requested = false;
      user.signin();
    });
  };
  for (const name of ['channelAuthorizer', 'userAuthenticator']) {
    const ask = config?.[name];
    if (!ask) continue;
    config[name] = (request: AuthRequest, callback: AuthCallback) => {
      const answer: AuthCallback = (error, data) => {
        if (!timer) return;
        clearTimeout(timer);
        timer = undefined;
        callback(error, data);
        // Asked for by its name, a header that the endpoint doesn't expose is an error in the page's console.
        const [, wait] = /^retry-after: *(.+)/im.exec(sent?.getAllResponseHeaders()) ?? [];
        if (isTemporary(error?.status)) again(request, retryAfter(wait));
      };
      let timer = later(ANSWER_TIMEOUT, () =>
        answer(Object.assign(new Error(`No answer within ${ANSWER_TIMEOUT} ms`), { status: 0 }), null),
      );
      // pusher-js keeps the request to itself, and reports no more than its status.
      const { Runtime = {} } = pusher.constructor as any;
      const { createXHR } = Runtime;
      let sent: any;
      if (createXHR) Runtime.createXHR = () => (sent = createXHR.call(Runtime));
      try {
        return ask(request, answer);
      } finally {
        if (createXHR) Runtime.createXHR = createXHR;
      }
    };
  }

  connection.bind('connected', listen);
  connection.bind('connected', () => (failures = {}));
  if (connection.state === 'connected') listen();
  return pusher;
}

interface AuthRequest {
  socketId: string;
  channelName?: string;
}

type AuthCallback = (error: any, data: unknown) => void;

/** Runs `action` after `delay` milliseconds. The timer doesn't keep Node running. */
function later(delay: number, action: () => void): any {
  const timer: any = setTimeout(action, delay);
  timer.unref?.();
  return timer;
}
