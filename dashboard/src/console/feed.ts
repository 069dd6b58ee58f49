// An open stream of live events: reads it, keeps the newest rows, and tells the page at most once a frame.
import { signal } from '@preact/signals';
import { ApiError, BASE, request } from '../api/client';
import { queryText } from '../router';
import type { Hello, LiveLine, Row } from './line';
import { Ring } from './ring';

/** Rows in memory. The server's own ring has 1,000. */
export const CAPACITY = 2_000;
const RECENT = 200;
const RETRY_MS = [500, 1_000, 2_000, 5_000];

export interface Filters {
  kinds: string;
  channel: string;
  event: string;
  user_id: string;
  socket_id: string;
  text: string;
  rate: number;
}

export type FeedState = { at: 'connecting' } | { at: 'open' } | { at: 'again'; because: string } | { at: 'ended'; because: string };

interface Source {
  close(): void;
}
/** Opens a stream; replaced in tests. */
export type Open = (url: string, on: Handlers) => Source;
export interface Handlers {
  open(): void;
  event(name: string, data: string): void;
  /** The stream is lost; `refused` if the server didn't want it. */
  lost(refused: boolean): void;
}

export class Feed {
  readonly rows = new Ring<Row>(CAPACITY);
  /** Changes with every frame that has new rows. */
  readonly version = signal(0);
  /** Rows that were added since the start; a list that is scrolled down moves by the difference. */
  added = 0;
  readonly state = signal<FeedState>({ at: 'connecting' });
  readonly hello = signal<Hello | undefined>(undefined);
  readonly paused = signal(false);
  /** Lines that matched and were beyond the speed. Where many come, their rows are soon out of sight. */
  leftOut = 0;
  /** Lines that came while the view is paused. */
  readonly held = signal(0);
  #waiting = new Ring<Row>(CAPACITY);
  #lost = 0;
  #ids = new Set<string>();
  /** The newest line of each node. */
  #newest = new Map<string, LiveLine>();
  /** The same when the view was cleared. */
  #cleared = new Map<string, LiveLine>();
  #frame = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempts = 0;
  #source: Source | undefined;
  #key = 0;
  #closed = false;
  #isLost = false;

  constructor(
    readonly appId: string,
    readonly filters: Filters,
    readonly open: Open = openEventSource,
    readonly nextFrame: (run: () => void) => number = (run) => requestAnimationFrame(run),
  ) {
    this.#connect();
  }

  get path(): string {
    const { rate, ...filters } = this.filters;
    return `/api/v1/apps/${encodeURIComponent(this.appId)}/events/live?${queryText({ ...filters, rate, recent: RECENT })}`;
  }

  #connect(): void {
    this.#isLost = false;
    this.#source = this.open(this.path, {
      open: () => {
        this.#attempts = 0;
        this.state.value = { at: 'open' };
      },
      event: (name, data) => this.#receive(name, data),
      lost: (refused) => void this.#lose(refused),
    });
  }

  #receive(name: string, data: string): void {
    const content = JSON.parse(data);
    if (name === 'hello') this.hello.value = content as Hello;
    else if (name === 'line') this.#take(content as LiveLine);
    else if (name === 'more') this.#leaveOut((content as { count: number }).count, 'rate');
    else if (name === 'end') void this.#lose(true, (content as { reason: string }).reason);
  }

  #take(line: LiveLine): void {
    // A stream that was opened again begins with lines that were here before.
    if (this.#ids.has(line.id) || isUpTo(line, this.#cleared.get(line.node))) return;
    this.#ids.add(line.id);
    if (!isUpTo(line, this.#newest.get(line.node))) this.#newest.set(line.node, line);
    this.#add({ at: 'line', line });
  }

  #add(row: Row): void {
    if (this.paused.peek()) {
      const pushedOut = this.#waiting.push(row);
      if (pushedOut) {
        this.#lost += linesOf(pushedOut);
        this.#forget(pushedOut);
      }
    } else {
      this.#show(row);
    }
    this.#schedule();
  }

  #show(row: Row): void {
    this.added += 1;
    const oldest = this.rows.push(row);
    if (oldest) this.#forget(oldest);
  }

  #forget(row: Row): void {
    if (row.at === 'line') this.#ids.delete(row.line.id);
  }

  /** Counts lines that were left out. Counts that follow each other are one row. */
  #leaveOut(count: number, because: 'rate' | 'pause'): void {
    if (count <= 0) return;
    if (because === 'rate') this.leftOut += count;
    const newest = this.paused.peek() ? this.#waiting.at(0) : this.rows.at(0);
    if (newest?.at === 'more' && newest.because === because) {
      newest.count += count;
      this.#schedule();
    } else {
      this.#add({ at: 'more', count, because, key: ++this.#key });
    }
  }

  #schedule(): void {
    if (this.#frame || this.#closed) return;
    this.#frame = this.nextFrame(() => {
      this.#frame = 0;
      if (this.#closed) return;
      this.held.value = this.#heldCount();
      this.version.value += 1;
    });
  }

  #heldCount(): number {
    let lines = this.#lost;
    for (let at = 0; at < this.#waiting.length; at += 1) {
      lines += linesOf(this.#waiting.at(at) as Row);
    }
    return lines;
  }

  pause(): void {
    this.paused.value = true;
  }

  /** Shows what came meanwhile, and how many lines were too many to keep. */
  resume(): void {
    this.paused.value = false;
    const waiting = this.#waiting;
    let [oldest, lost] = [waiting.length - 1, this.#lost];
    this.#waiting = new Ring<Row>(CAPACITY);
    this.#lost = 0;
    if (lost > 0) {
      // The row that counts them takes the place of one more.
      lost += linesOf(waiting.at(oldest) as Row);
      oldest -= 1;
      this.#leaveOut(lost, 'pause');
    }
    for (let at = oldest; at >= 0; at -= 1) this.#show(waiting.at(at) as Row);
    this.#schedule();
  }

  clear(): void {
    this.rows.clear();
    this.#ids.clear();
    this.#cleared = new Map(this.#newest);
    this.leftOut = 0;
    this.#schedule();
  }

  /** Opens the stream again, unless the server refuses it: `because` is why the server ended it, if it said so. */
  async #lose(mayBeRefused: boolean, because?: string): Promise<void> {
    this.#source?.close();
    if (this.#closed || this.#isLost || this.state.peek().at === 'ended') return;
    this.#isLost = true;
    if (mayBeRefused) {
      const refused = await refusal(this.path);
      if (this.#closed) return;
      if (refused) return this.#end(because ?? refused);
    }
    const wait = RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)] as number;
    this.#attempts += 1;
    this.state.value = { at: 'again', because: because ?? 'The connection to the server was lost; trying again.' };
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #end(because: string): void {
    this.#source?.close();
    this.state.value = { at: 'ended', because };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }
}

/** Whether a line is `last` or older. Numbers begin again when a node starts again, and times do not. */
function isUpTo(line: LiveLine, last: LiveLine | undefined): boolean {
  return last !== undefined && line.time_ms <= last.time_ms && numberOf(line) <= numberOf(last);
}

/** The number of a line on its node, which is the last part of its id. */
function numberOf({ id }: LiveLine): number {
  return Number(id.slice(id.lastIndexOf('-') + 1));
}

function linesOf(row: Row): number {
  return row.at === 'more' ? row.count : 1;
}

/** Why the server refuses a stream, which an `EventSource` doesn't say. `undefined` if it doesn't refuse it now. */
async function refusal(path: string): Promise<string | undefined> {
  const abort = new AbortController();
  try {
    await request(path, { headers: { Accept: 'text/event-stream' }, signal: abort.signal });
    return undefined;
  } catch (error) {
    return error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429 ? error.message : undefined;
  } finally {
    abort.abort();
  }
}

function openEventSource(path: string, on: Handlers): Source {
  const source = new EventSource(BASE + path);
  source.onopen = () => on.open();
  // What ended without a refusal would be opened again by the browser with the same lines; the feed does that itself, with pauses that grow.
  source.onerror = () => on.lost(source.readyState === EventSource.CLOSED);
  for (const name of ['hello', 'line', 'more', 'end']) {
    source.addEventListener(name, (event) => on.event(name, (event as MessageEvent<string>).data));
  }
  return source;
}
