// Short messages at the edge of the page, some with a way back.
import { signal } from '@preact/signals';

interface Message {
  id: number;
  text: string;
  bad: boolean;
  undo?: (() => Promise<unknown>) | undefined;
}

const messages = signal<Message[]>([]);
const LIFETIME_MS = 8_000;
let last = 0;

export function toast(text: string, { bad = false, undo }: { bad?: boolean; undo?: () => Promise<unknown> } = {}): void {
  const id = ++last;
  messages.value = [...messages.value.filter((message) => message.text !== text), { id, text, bad, undo }].slice(-4);
  setTimeout(() => dismiss(id), undo ? 2 * LIFETIME_MS : LIFETIME_MS);
}

function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
}

async function takeBack({ id, undo }: Message): Promise<void> {
  dismiss(id);
  try {
    await undo?.();
    toast('Undone.');
  } catch (error) {
    toast(`Not undone: ${(error as Error).message}`, { bad: true });
  }
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {messages.value.map((message) => (
        <div key={message.id} class={message.bad ? 'toast bad' : 'toast'}>
          <span>{message.text}</span>
          {message.undo && (
            <button type="button" class="button quiet" onClick={() => void takeBack(message)}>
              Undo
            </button>
          )}
          <button type="button" class="button quiet" aria-label="Dismiss" onClick={() => dismiss(message.id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
