/** What went wrong, for programs. Messages are for people and may change. */
export type ErrorCode =
  | 'auth_failed'
  | 'buffer_full'
  | 'closed'
  | 'connection_lost'
  | 'connection_refused'
  | 'decryption_failed'
  | 'invalid_argument'
  | 'invalid_message'
  | 'server_error'
  | 'signin_refused'
  | 'subscription_refused'
  | 'unsupported';

export interface ErrorDetails {
  /** A close code of the protocol, or null where the server gave none. */
  closeCode?: number | null | undefined;
  /** The words that came with it. */
  reason?: string | undefined;
  /** The HTTP status of an auth endpoint, or the status that the server gave for a subscription. */
  status?: number | undefined;
  channel?: string | undefined;
  cause?: unknown;
  /** The SDK tries again by itself. */
  retrying?: boolean;
  /** Milliseconds that an auth endpoint asked to wait (`Retry-After`). */
  retryAfter?: number | undefined;
  /** In so many milliseconds. */
  retryIn?: number;
}

export interface FanfareError extends ErrorDetails {}

export class FanfareError extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
    details: ErrorDetails = {},
  ) {
    super(message);
    this.name = 'FanfareError';
    Object.assign(this, details);
  }
}

export function messageOf(thrown: any): string {
  // Node's fetch only says that it failed, and why in the cause.
  const why = thrown?.cause?.message || thrown?.cause?.code;
  return (thrown?.message ?? String(thrown)) + (why ? `: ${why}` : '');
}
