import { useEffect, useState } from 'preact/hooks';

const REST_MS = 300;

/** A value once it has not changed for a moment, so that not every key asks the server. */
export function useSettled<T>(value: T): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    if (Object.is(value, settled)) return;
    const timer = setTimeout(() => setSettled(value), REST_MS);
    return () => clearTimeout(timer);
  }, [value, settled]);
  return settled;
}
