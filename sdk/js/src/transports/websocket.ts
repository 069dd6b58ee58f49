import { encode } from '../protocol.js';
import { ABNORMAL, query, type TransportFactory } from './transport.js';

const OPEN = 1;
// A socket that takes nothing any more must not fill the memory.
const MAX_BUFFERED = 4 * 1024 * 1024;

export const websocket: TransportFactory = {
  name: 'websocket',

  isSupported: ({ WebSocket }) => typeof WebSocket === 'function',

  open({ WebSocket, endpoints, key }, listener) {
    const socket = new WebSocket!(`${endpoints.ws}/app/${key}${query()}`);
    socket.onmessage = ({ data }) => {
      listener.activity();
      if (typeof data === 'string') listener.message(data);
    };
    // Deno gives the code 0 where browsers give 1006.
    socket.onclose = ({ code, reason }) => listener.close(code || ABNORMAL, reason ?? '');
    // After a failed attempt, Node 22 sends this event only: no close event follows it.
    socket.onerror = (event) => socket.onclose?.({ reason: event?.message });
    const send = (text: string) => {
      if (socket.readyState !== OPEN || (socket.bufferedAmount ?? 0) > MAX_BUFFERED) return false;
      socket.send(text);
      return true;
    };
    return {
      name: 'websocket',
      send,
      ping: () => void send(encode('pusher:ping', {})),
      close() {
        socket.onmessage = socket.onclose = null;
        socket.close();
      },
    };
  },
};
