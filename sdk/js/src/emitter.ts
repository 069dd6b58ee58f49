export interface ListenOptions {
  /** Removes the listener when it aborts. */
  signal?: AbortSignal | undefined;
  /** Removes the listener after its first call. */
  once?: boolean | undefined;
}

/** Takes the listener away again. Calling it twice does no harm. */
export type Off = () => void;

/** Listeners by name. `Events` maps each name to the arguments of its listeners. */
export class Emitter<Events extends { [Name in keyof Events]: unknown[] }> {
  #entries = new Map<keyof Events, ((...all: any[]) => void)[]>();

  on<Name extends keyof Events>(
    name: Name,
    listener: (...all: Events[Name]) => void,
    { signal, once }: ListenOptions = {},
  ): Off {
    if (signal?.aborted) return () => {};
    const entry = (...all: Events[Name]) => {
      if (once) off();
      listener(...all);
    };
    const off = () => {
      signal?.removeEventListener('abort', off);
      this.#entries.set(
        name,
        this.#of(name).filter((other) => other !== entry),
      );
    };
    // A new array: who is being called right now does not see it change.
    this.#entries.set(name, [...this.#of(name), entry]);
    signal?.addEventListener('abort', off);
    return off;
  }

  /** Whether there was anybody to call. */
  emit<Name extends keyof Events>(name: Name, ...all: Events[Name]): boolean {
    const entries = this.#of(name);
    for (const entry of entries) call(() => entry(...all));
    return entries.length > 0;
  }

  #of(name: keyof Events): ((...all: any[]) => void)[] {
    return this.#entries.get(name) ?? [];
  }
}

/** A listener that throws is reported as any uncaught error is, and keeps nobody else from being called. */
export function call(action: () => void): void {
  try {
    action();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}
