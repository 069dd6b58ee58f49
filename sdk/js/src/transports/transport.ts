import type { Settings } from '../options.js';

export type TransportName = 'websocket' | 'streaming' | 'polling';

/** What a transport tells. `close` comes once and last. */
export interface TransportListener {
  message(text: string): void;
  /** The server was heard of, with or without a message. */
  activity(): void;
  close(code: number, reason: string): void;
}

export interface Transport {
  readonly name: TransportName;
  /** False when it cannot take more: it is closed, or too much waits already. */
  send(text: string): boolean;
  /** Makes the server answer. */
  ping(): void;
  /** Nothing is told afterwards. */
  close(): void;
}

export interface TransportFactory {
  readonly name: TransportName;
  isSupported(settings: Settings): boolean;
  open(settings: Settings, listener: TransportListener): Transport;
}

export const ABNORMAL = 1006;

export function query(): string {
  return '?protocol=7&client=fanfare-js&version=' + __VERSION__;
}

declare const __VERSION__: string;
