import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * What lies between a client and a server. `down()`: it ends connections without a word and takes none. `hang()`: it
 * passes nothing on any more, and says nothing of that. `up()`: all is well, for new connections. With `noWebSocket` it
 * ends ('end') or swallows ('hang') every WebSocket. `port` may be a function, asked for each connection.
 */
export async function startNetwork(port, { noWebSocket } = {}) {
  const pairs = new Set();
  let state = 'up';
  const entrance = createServer((near) => {
    near.on('error', () => near.destroy());
    if (state === 'down') return void near.destroy();
    const pair = [near];
    pairs.add(pair);
    near.on('close', () => pairs.delete(pair));
    if (state === 'hang') return void near.resume();
    near.once('data', (first) => {
      if (noWebSocket && /^upgrade: *websocket/im.test(first.toString('latin1'))) {
        if (noWebSocket === 'end') near.destroy();
        return;
      }
      const far = connect(typeof port === 'function' ? port() : port, '127.0.0.1');
      pair.push(far);
      const end = () => pair.forEach((socket) => socket.destroy());
      for (const socket of pair) socket.on('error', end).on('close', end);
      far.write(first);
      near.pipe(far).pipe(near);
    });
    return undefined;
  }).listen(0, '127.0.0.1');
  await once(entrance, 'listening');
  return {
    port: entrance.address().port,
    url: `http://127.0.0.1:${entrance.address().port}`,
    down() {
      state = 'down';
      pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
    },
    hang() {
      state = 'hang';
      for (const [near, far] of pairs) {
        near.unpipe();
        far?.unpipe();
        near.resume();
        far?.resume();
      }
    },
    up() {
      state = 'up';
    },
    stop() {
      this.down();
      return new Promise((resolve) => entrance.close(resolve));
    },
  };
}
