// The documentation, as this server shows it, unless docs.enabled is false.
import { signal } from '@preact/signals';

/** Whether it is there. */
export const hasDocs = signal(false);

/** Looks once, when somebody is signed in. */
export function lookForDocs(): void {
  fetch('docs/llms.txt', { method: 'HEAD' }).then(
    ({ ok }) => (hasDocs.value = ok),
    () => {},
  );
}

/** The address of a chapter that is named by its file, such as docs/history.md. */
export const docsUrl = (chapter: string) => chapter.replace('.md', '');
