export interface Frame {
  event: string;
  channel?: string;
  /** Parsed where the text on the wire was JSON, else that text. */
  data?: any;
  /** On presence channels: who sent a client event. */
  user_id?: string;
  /** Where a channel with history stands after this event. Opaque. */
  position?: string;
}

export function decode(text: string): Frame | undefined {
  const frame = parse(text);
  if (typeof frame?.event !== 'string') return undefined;
  if (typeof frame.data === 'string') {
    const value = parse(frame.data);
    if (value !== undefined) frame.data = value;
  }
  return frame;
}

export function encode(event: string, data: unknown, channel?: string): string {
  return JSON.stringify({ event, channel, data });
}

export function parse(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What a client does after its connection was closed with a code. */
export type Reaction = 'backoff' | 'later' | 'now' | 'never';

export function reactionTo(code: number | null | undefined): Reaction {
  if (!code || code < 4000) return 'backoff';
  if (code < 4100 || code >= 4300) return 'never';
  return code < 4200 ? 'later' : 'now';
}
