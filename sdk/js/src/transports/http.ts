import { parse } from '../protocol.js';
import { messageOf } from '../errors.js';
import { ABNORMAL, query, type Transport, type TransportFactory, type TransportListener } from './transport.js';
import type { Settings } from '../options.js';

// Frames wait only while a request with earlier ones is on its way.
const MAX_WAITING = 256;
// Servers send no more in one answer, counted as JavaScript does: pusher-js, which keeps all of it, asks anew then.
const MAX_ANSWER = 256 * 1024;
// A line that never ends must not fill the memory.
const MAX_LINE = 16 * 1024 * 1024;

export const streaming = factory('streaming');
export const polling = factory('polling');

function factory(name: 'streaming' | 'polling'): TransportFactory {
  return {
    name,
    // React Native's fetch gives a body only when it is complete.
    isSupported: () => typeof fetch === 'function' && (name === 'polling' || 'body' in Response.prototype),
    open: (settings, listener) => open(name, settings, listener),
  };
}

function open(name: 'streaming' | 'polling', settings: Settings, listener: TransportListener): Transport {
  const { fetch, endpoints, key } = settings;
  const session = `${randomBelow(1000)}/${(32 ** 8 + randomBelow(32 ** 8)).toString(32).slice(1)}`;
  const base = `${endpoints.fallback}/app/${key}/${session}`;
  const abort = new AbortController();
  const { signal } = abort;
  const waiting: string[] = [];
  let sending = false;
  let isOpen = false;

  const close = (code: number, reason: string) => {
    if (signal.aborted) return;
    abort.abort();
    listener.close(code, reason);
  };

  const post = (path: string, body = '') =>
    // No content type of ours: with one, browsers would ask before each request whether it may be made.
    fetch(base + path, { method: 'POST', body, signal, credentials: 'omit' });

  const line = (text: string) => {
    if (signal.aborted || !text) return;
    listener.activity();
    const kind = text[0];
    const content = parse(text.slice(1));
    if (kind === 'o') {
      if (isOpen) close(ABNORMAL, 'Session lost');
      isOpen = true;
    } else if (kind === 'a') {
      for (const frame of content ?? []) if (!signal.aborted) listener.message(frame);
    } else if (kind === 'c') {
      close(content?.[0] ?? ABNORMAL, content?.[1] ?? '');
    } else if (name === 'streaming' && isOpen) {
      // The only sign of life that a server sees of a stream.
      ping();
    }
  };

  const receive = async () => {
    const path = `/${name === 'streaming' ? 'xhr_streaming' : 'xhr'}${query()}`;
    for (let more = true; more && !signal.aborted;) {
      const response = await post(path);
      if (response.status !== 200) return close(ABNORMAL, `HTTP ${response.status}`);
      if (name === 'polling') (await response.text()).split('\n').forEach(line);
      else more = await readLines(response, line);
    }
    close(ABNORMAL, 'Stream ended');
  };

  // One request at a time, as several could overtake each other.
  const flush = async () => {
    if (sending || signal.aborted) return;
    sending = true;
    while (waiting.length) {
      const { status } = await post('/xhr_send', `[${waiting.splice(0).join()}]`);
      if (status >= 400) return close(ABNORMAL, `HTTP ${status}`);
    }
    sending = false;
  };

  const lost = (error: unknown) => close(ABNORMAL, messageOf(error));

  const ping = () => {
    // What waits will be answered as well.
    if (!sending) post('/xhr_send', '[]').catch(lost);
  };

  receive().catch(lost);

  return {
    name,
    send(text) {
      if (!isOpen || signal.aborted || waiting.length >= MAX_WAITING) return false;
      waiting.push(JSON.stringify(text));
      flush().catch(lost);
      return true;
    },
    ping,
    close: () => abort.abort(),
  };
}

/** Whether the answer was left because it had become too long, and the next one goes on. */
async function readLines(response: Response, line: (text: string) => void): Promise<boolean> {
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let length = 0;
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return false;
    const text = decoder.decode(value, { stream: true });
    length += text.length;
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    if (rest.length > MAX_LINE) throw new Error('Line too long');
    lines.forEach(line);
    if (length > MAX_ANSWER && !rest) {
      reader.cancel().catch(() => {});
      return true;
    }
  }
}

function randomBelow(limit: number): number {
  return Math.floor(Math.random() * limit);
}
