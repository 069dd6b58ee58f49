export interface SurroundingsListener {
  online(): void;
  offline(): void;
  /** The page was left, and is kept for the way back. It neither runs nor receives anything until `awake`. */
  left(): void;
  /** The page is seen again, or the device has slept for `asleep` milliseconds. */
  awake(asleep: number): void;
}

const TICK = 5_000;
// Timers are late on a busy machine as well.
const ASLEEP = 15_000;

/** Watches network, page and clock, as far as the platform has them. Calling the result ends it. */
export function watchSurroundings(listener: SurroundingsListener): () => void {
  const stops: (() => void)[] = [];
  const document = globalThis.document as Document | undefined;
  const watch = (target: any, event: string, action: (event: any) => void) => {
    // React Native has a window without events.
    if (typeof target?.addEventListener !== 'function') return;
    target.addEventListener(event, action);
    stops.push(() => target.removeEventListener(event, action));
  };
  // Browsers slow the timers of hidden pages down, which looks like sleep.
  const hidden = () => document?.visibilityState === 'hidden';

  let last = Date.now();
  const tick = () => {
    const asleep = Date.now() - last - TICK;
    last = Date.now();
    return asleep;
  };
  const awake = ({ persisted }: { persisted?: boolean }) => {
    if (persisted || !hidden()) listener.awake(Math.max(0, tick()));
  };
  const clock = setInterval(() => {
    const asleep = tick();
    if (asleep > ASLEEP && !hidden()) listener.awake(asleep);
  }, TICK);
  stops.push(() => clearInterval(clock));

  watch(globalThis, 'online', () => listener.online());
  watch(globalThis, 'offline', () => listener.offline());
  watch(globalThis, 'pagehide', ({ persisted }) => persisted && listener.left());
  watch(globalThis, 'pageshow', awake);
  watch(document, 'visibilitychange', awake);
  watch(document, 'resume', awake);
  return () => stops.forEach((stop) => stop());
}
