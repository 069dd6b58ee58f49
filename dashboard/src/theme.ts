// Light, dark, or what the system has.
import { signal } from '@preact/signals';
import { stored, store } from './storage';

export type Scheme = 'system' | 'light' | 'dark';
const SCHEMES: readonly string[] = ['system', 'light', 'dark'];

const saved = stored('scheme');
export const scheme = signal<Scheme>(SCHEMES.includes(saved ?? '') ? (saved as Scheme) : 'system');

scheme.subscribe((value) => {
  document.documentElement.dataset.scheme = value;
  store('scheme', value === 'system' ? null : value);
});

/** Whether the page is dark now, for what can't be said in CSS. */
export function isDark(): boolean {
  return scheme.value === 'dark' || (scheme.value === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);
}
