/** A server of the HTTP fallbacks whose answers the test gives. */
export class ScriptedHttp {
  /** Paths below the session that were asked for, with their bodies. */
  readonly requests: { path: string; body: string }[] = [];
  readonly sessions = new Set<string>();
  /** What `xhr_send` answers. */
  sendStatus = 204;
  #receivers: { write(text: string): void; end(): void; fail(status: number): void }[] = [];

  readonly fetch = ((url: string, { body, signal }: { body: string; signal: AbortSignal }) => {
    const [, session, path] = /\/pusher\/app\/KEY\/(\d+\/[0-9a-v]{8})\/([^?]+)/.exec(url)!;
    this.sessions.add(session!);
    this.requests.push({ path: path!, body });
    if (path === 'xhr_send') return Promise.resolve(new Response(null, { status: this.sendStatus }));
    return new Promise<Response>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      let controller!: ReadableStreamDefaultController<Uint8Array>;
      const stream = new ReadableStream<Uint8Array>({ start: (it) => void (controller = it) });
      signal.addEventListener('abort', () => controller.error(signal.reason));
      const response = new Response(stream);
      const answer = () => resolve(response);
      if (path === 'xhr_streaming') answer();
      this.#receivers.push({
        write: (text) => {
          answer();
          controller.enqueue(new TextEncoder().encode(text));
          if (path === 'xhr') controller.close();
        },
        end: () => controller.close(),
        fail: (status) => resolve(new Response('', { status })),
      });
    });
  }) as unknown as typeof fetch;

  /** What the client receives with at the moment. */
  get receiver() {
    return this.#receivers.at(-1)!;
  }

  sent(): unknown[] {
    return this.requests
      .filter(({ path }) => path === 'xhr_send')
      .flatMap(({ body }) => JSON.parse(body))
      .map((text) => JSON.parse(text));
  }
}

export function frames(...all: { event: string; channel?: string; data?: unknown }[]): string {
  return `a${JSON.stringify(all.map((frame) => JSON.stringify({ ...frame, data: JSON.stringify(frame.data) })))}\n`;
}

export const GREETING = { event: 'pusher:connection_established', data: { socket_id: '9.9', activity_timeout: 120 } };
