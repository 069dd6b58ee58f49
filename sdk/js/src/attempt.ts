import { messageOf } from './errors.js';
import { decode, reactionTo } from './protocol.js';
import type { Settings } from './options.js';
import { ABNORMAL, type Transport, type TransportFactory, type TransportListener } from './transports/transport.js';

export interface Established {
  transport: Transport;
  socketId: string;
  /** Milliseconds. */
  activityTimeout: number;
  /** From now on the transport tells `listener`. */
  handOver(listener: TransportListener): void;
}

export interface Failure {
  code: number;
  reason: string;
}

/**
 * Connects over the first transport that works. The next one is tried as well when one has failed, or has been silent
 * for `headStart` milliseconds: whoever is greeted by the server first wins. The same transport several times is for
 * silence only: where it has failed, its next attempt would fail as well. Calling the result gives up.
 */
export function attempt(
  factories: TransportFactory[],
  settings: Settings,
  headStart: number,
  done: (result: Established | Failure) => void,
): () => void {
  const remaining = [...factories];
  const open = new Set<Transport>();
  let timer: ReturnType<typeof setTimeout> | undefined;

  const giveUp = () => {
    remaining.length = 0;
    done = () => {};
    clearTimeout(timer);
    clearTimeout(deadline);
    open.forEach((transport) => transport.close());
  };
  const finish = (result: Established | Failure) => {
    const tell = done;
    giveUp();
    tell(result);
  };
  const deadline = setTimeout(
    () => finish({ code: ABNORMAL, reason: `No connection within ${settings.connectTimeout} ms` }),
    settings.connectTimeout,
  );

  const next = () => {
    clearTimeout(timer);
    const factory = remaining.shift();
    if (!factory) return;
    let transport: Transport | undefined;
    const failed = (code: number, reason: string) => {
      if (transport) open.delete(transport);
      transport?.close();
      const [following] = remaining;
      // Where the server has spoken, it would say the same over another transport.
      if (reactionTo(code) === 'backoff') {
        if (following && following !== factory) return next();
        if (open.size) return;
      }
      finish({ code, reason: reason || factory.name });
    };
    const listener: TransportListener = {
      activity() {},
      message(text) {
        const { event, data } = decode(text) ?? {};
        if (event === 'pusher:connection_established') {
          open.delete(transport!);
          finish({
            transport: transport!,
            socketId: data.socket_id,
            activityTimeout: (data.activity_timeout || 120) * 1000,
            handOver: (other) => Object.assign(listener, other),
          });
        } else if (event === 'pusher:error' && data.code) {
          failed(data.code, data.message);
        }
      },
      close: failed,
    };
    timer = setTimeout(next, headStart);
    try {
      open.add((transport = factory.open(settings, listener)));
    } catch (error) {
      queueMicrotask(() => failed(ABNORMAL, messageOf(error)));
    }
  };

  next();
  return giveUp;
}
