// WebSockets by hand, for strangers who do what no library would.
/** A WebSocket frame of a client; with a mask of zeros the payload stands as it is. `length` announces more than comes. */
export function frame(first, payload, length = payload.length) {
  const head = length < 126 ? [first, 0x80 | length] : length < 65536 ? [first, 0xfe, length >> 8, length & 255] : [first, 0xff];
  const long = Buffer.alloc(length < 65536 ? 0 : 8);
  if (long.length) long.writeBigUInt64BE(BigInt(length));
  return Buffer.concat([Buffer.from(head), long, Buffer.alloc(4), Buffer.from(payload)]);
}

/** The first frame of a server, if it is whole. */
export function split(bytes) {
  if (bytes.length < 2) return undefined;
  const [head, length] = bytes[1] < 126 ? [2, bytes[1]] : [4, bytes.length < 4 ? Infinity : bytes.readUInt16BE(2)];
  if (bytes.length < head + length) return undefined;
  return { text: bytes.toString('utf8', head, head + length), rest: bytes.subarray(head + length) };
}

export const message = (event, data) => frame(0x81, JSON.stringify({ event, data }));

export const handshake = (key) =>
  `GET /app/${key}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
