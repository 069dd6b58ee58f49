import { call } from '../emitter.js';

type Callback = (...all: any[]) => void;

interface Binding {
  name: string;
  callback: Callback;
  context: unknown;
}

/** Listeners with the interface of pusher-js. */
export class Dispatcher {
  #bindings: Binding[] = [];
  #global: Callback[] = [];

  bind(name: string, callback: Callback, context?: unknown): this {
    this.#bindings = [...this.#bindings, { name, callback, context }];
    return this;
  }

  bind_global(callback: Callback): this {
    this.#global = [...this.#global, callback];
    return this;
  }

  /** Removes listeners. An argument that isn't given matches everything. */
  unbind(name?: string, callback?: Callback, context?: unknown): this {
    this.#bindings = this.#bindings.filter(
      (it) =>
        (name && it.name !== name) || (callback && it.callback !== callback) || (context && it.context !== context),
    );
    return this;
  }

  unbind_global(callback?: Callback): this {
    this.#global = callback ? this.#global.filter((it) => it !== callback) : [];
    return this;
  }

  unbind_all(): this {
    return this.unbind().unbind_global();
  }

  emit(name: string, data?: unknown, metadata?: unknown): this {
    for (const callback of this.#global) call(() => callback(name, data));
    const all = metadata !== undefined ? [data, metadata] : data === undefined ? [] : [data];
    for (const { name: bound, callback, context } of this.#bindings) {
      if (bound === name) call(() => callback.apply(context ?? globalThis, all));
    }
    return this;
  }
}
