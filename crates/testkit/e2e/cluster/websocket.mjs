// As much of a WebSocket client as the tests need: text messages without fragments, close, ping.
import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { connect } from 'node:net';

const [TEXT, CLOSE, PING, PONG] = [1, 8, 9, 10];

/** Emits `text` for each message and, once, `close` with the code of the close frame if there was one. */
export class WebSocket extends EventEmitter {
  #socket;
  #unread = Buffer.alloc(0);
  #upgraded = false;
  #code;

  constructor(port, path) {
    super();
    this.#socket = connect(port, '127.0.0.1');
    this.#socket.setNoDelay();
    const headers = {
      Host: `127.0.0.1:${port}`,
      Upgrade: 'websocket',
      Connection: 'Upgrade',
      'Sec-WebSocket-Version': 13,
      'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`);
    this.#socket.on('data', (chunk) => this.#read(chunk));
    this.#socket.on('error', () => {});
    this.#socket.on('end', () => this.#socket.end());
    this.#socket.once('close', () => this.emit('close', this.#code));
  }

  send(text) {
    this.#write(TEXT, Buffer.from(text));
  }

  /** Leaves in an orderly way. */
  close() {
    this.#write(CLOSE, Buffer.from([0x03, 0xe8]));
    this.#socket.end();
  }

  destroy() {
    this.#socket.destroy();
  }

  #write(opcode, payload) {
    if (!this.#socket.writable) return;
    // A mask of zeros is a mask: what is sent stays as it is.
    const long = payload.length > 125;
    const head = Buffer.alloc(long ? 8 : 6);
    head[0] = 0x80 | opcode;
    head[1] = 0x80 | (long ? 126 : payload.length);
    if (long) head.writeUInt16BE(payload.length, 2);
    this.#socket.write(Buffer.concat([head, payload]));
  }

  #read(chunk) {
    this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    if (!this.#upgraded) {
      const end = this.#unread.indexOf('\r\n\r\n');
      if (end < 0) return;
      if (!this.#unread.subarray(0, end).toString().startsWith('HTTP/1.1 101')) return void this.destroy();
      this.#upgraded = true;
      this.#unread = this.#unread.subarray(end + 4);
    }
    for (let frame = this.#next(); frame; frame = this.#next()) this.#handle(frame);
  }

  #next() {
    const bytes = this.#unread;
    if (bytes.length < 2) return undefined;
    const short = bytes[1] & 0x7f;
    const start = { 126: 4, 127: 10 }[short] ?? 2;
    if (bytes.length < start) return undefined;
    const length = { 2: () => short, 4: () => bytes.readUInt16BE(2), 10: () => Number(bytes.readBigUInt64BE(2)) }[start]();
    if (bytes.length < start + length) return undefined;
    this.#unread = bytes.subarray(start + length);
    return { opcode: bytes[0] & 0x0f, payload: bytes.subarray(start, start + length) };
  }

  #handle({ opcode, payload }) {
    if (opcode === TEXT) this.emit('text', payload.toString());
    if (opcode === PING) this.#write(PONG, payload);
    if (opcode === CLOSE) {
      this.#code = payload.length >= 2 ? payload.readUInt16BE(0) : undefined;
      this.#write(CLOSE, payload);
      this.#socket.end();
    }
  }
}
