/** As far as it is used: pusher-js 7 or later, or what `echo.connector.pusher` of Laravel Echo is. */
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

// Milliseconds that an auth endpoint has to answer.
const PATIENCE = 15_000;
// Milliseconds within which it is asked again. They double with each failure, up to the second.
const FIRST = 1_000;
const MAX = 30_000;

/**
 * Lets an instance of pusher-js come back without a gap. Call it right after `new Pusher(...)`. Where something may be
 * missing all the same, the channel gets an event `fanfare:gap` with `{ reason }`. An auth endpoint that answers 429 or
 * 5xx, is not reached or does not answer is asked again; alone, pusher-js asks once for each connection.
 */
export function recover<Instance extends PusherLike>(pusher: Instance): Instance {
  const { config, connection } = pusher;
  const send = pusher.send_event;
  // By channel object: one that is unsubscribed from and subscribed to anew is another object, and misses nothing.
  const reached = new WeakMap<object, { name: string; position: string; socket_id: string }>();
  const find = (name: string) => pusher.channel(name) || pusher.user?.serverToUserChannel;
  // pusher-js makes a new object for what is sent to the user with each sign-in.
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
      // After the listeners of the subscription itself.
      if (about.recovered === false)
        Promise.resolve().then(() => find(name)?.emit('fanfare:gap', { reason: about.reason }));
    } catch {
      // pusher-js reports what cannot be read.
    }
  };

  // pusher-js drops what it does not know when it decodes frames, so they are read as they arrive; and before it calls
  // the application, whose errors would end it.
  const listen = () => {
    const { transport } = connection.connection;
    transport.bind('message', read);
    const listeners = transport.callbacks?.get?.('message');
    listeners?.unshift(listeners.pop());
  };

  let failures: Record<string, number> = {};
  const again = ({ socketId, channelName = '' }: AuthRequest) => {
    const delay = Math.random() * Math.min(MAX, FIRST * 2 ** (failures[channelName] ??= 0));
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
        const { status } = error ?? {};
        // pusher-js has 0 where there was no answer.
        if (status === 0 || status === 429 || status >= 500) again(request);
      };
      let timer = later(PATIENCE, () =>
        answer(Object.assign(new Error(`No answer within ${PATIENCE} ms`), { status: 0 }), null),
      );
      return ask(request, answer);
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

/** Nothing that happens later keeps Node from ending. */
function later(delay: number, action: () => void): any {
  const timer: any = setTimeout(action, delay);
  timer.unref?.();
  return timer;
}
