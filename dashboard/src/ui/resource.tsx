// What a page loads, and its three other states: loading, failed, empty.
import type { ComponentChildren } from 'preact';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api/client';
import { Button, Prose } from './controls';

export interface Resource<T> {
  value: T | undefined;
  error: ApiError | undefined;
  loading: boolean;
  reload: () => Promise<void>;
  /** Puts a newer value in place, for example the answer to a change. */
  put: (value: T) => void;
}

/** Loads when `keys` change and, with `every`, again after so many milliseconds while the tab is visible. */
export function useResource<T>(load: () => Promise<T>, keys: readonly unknown[], every?: number): Resource<T> {
  const [state, setState] = useState<{ value?: T; error?: ApiError; loading: boolean }>({ loading: true });
  // Answers to older questions are not shown.
  const turn = useRef(0);
  const current = useRef(load);
  current.current = load;
  const reload = useCallback(async () => {
    const mine = ++turn.current;
    try {
      const value = await current.current();
      if (mine === turn.current) setState({ value, loading: false });
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(0, 'unknown', String(error));
      if (mine === turn.current) setState((before) => ({ ...before, error: known, loading: false }));
    }
  }, []);
  useEffect(() => {
    setState({ loading: true });
    void reload();
    const timer = every ? setInterval(() => document.hidden || void reload(), every) : undefined;
    return () => {
      clearInterval(timer);
      turn.current += 1;
    };
  }, [...keys, every]);
  const put = useCallback((value: T) => {
    turn.current += 1;
    setState({ value, loading: false });
  }, []);
  return { value: state.value, error: state.error, loading: state.loading, reload, put };
}

export function Loaded<T>({ from, children }: { from: Resource<T>; children: (value: T) => ComponentChildren }) {
  if (from.value === undefined) {
    return from.error ? <Failed error={from.error} retry={from.reload} /> : <Loading />;
  }
  return (
    <>
      {from.error && <Failed error={from.error} retry={from.reload} stale />}
      {children(from.value)}
    </>
  );
}

export function Loading() {
  return (
    <div class="state" role="status">
      <span class="spinner" aria-hidden="true" /> Loading
    </div>
  );
}

export function Failed({ error, retry, stale }: { error: Error; retry?: (() => unknown) | undefined; stale?: boolean }) {
  const missing = error instanceof ApiError && error.status === 404;
  return (
    <div class={stale ? 'note bad' : 'state bad'} role="alert">
      <span>
        {stale && 'What you see is older: '}
        <Prose text={error.message} />
      </span>
      {missing && !stale && <span>It may have been deleted, or it is not one of your apps.</span>}
      {retry && <Button onClick={() => void retry()}>Try again</Button>}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="state">
      <strong>{title}</strong>
      {children && <div>{children}</div>}
    </div>
  );
}
