/** Milliseconds. A longer `Retry-After` is most likely a mistake, and the channel would be dead for as long. */
const LONGEST_RETRY_AFTER = 300_000;

/** Whether an auth endpoint is asked again after `status`. 0 is what XMLHttpRequest has for no answer. */
export function isTemporary(status: number | undefined): boolean {
  return status === 0 || status === 408 || status === 429 || status! >= 500;
}

/** Returns the milliseconds that a `Retry-After` header asks to wait, if it is a time to come: in seconds, or an HTTP date. */
export function retryAfter(header: string | null | undefined): number | undefined {
  const seconds = Number(header);
  const wait = isNaN(seconds) ? Date.parse(header!) - Date.now() : seconds * 1000;
  return wait > 0 ? Math.min(wait, LONGEST_RETRY_AFTER) : undefined;
}
