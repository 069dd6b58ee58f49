// The newest lines, in bounded memory. Index 0 is the newest.

export class Ring<T> {
  #items: (T | undefined)[];
  #next = 0;
  #length = 0;

  constructor(readonly capacity: number) {
    this.#items = new Array<T | undefined>(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** Returns the line that made room, if one had to. */
  push(item: T): T | undefined {
    const oldest = this.#items[this.#next];
    this.#items[this.#next] = item;
    this.#next = (this.#next + 1) % this.capacity;
    if (this.#length < this.capacity) this.#length += 1;
    return oldest;
  }

  at(index: number): T | undefined {
    if (index < 0 || index >= this.#length) return undefined;
    return this.#items[(this.#next - 1 - index + 2 * this.capacity) % this.capacity];
  }

  clear(): void {
    this.#items.fill(undefined);
    this.#next = 0;
    this.#length = 0;
  }
}
