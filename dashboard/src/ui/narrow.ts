// Whether the screen is as narrow as a phone's, as the style has it.
import { signal } from '@preact/signals';

export const narrow = signal(false);

// Test environments have no screen.
const screen = globalThis.matchMedia?.('(max-width: 800px)');
if (screen) {
  narrow.value = screen.matches;
  screen.addEventListener('change', () => (narrow.value = screen.matches));
}
