// Keys: `/` searches, `?` helps, `g` and a second key go to a page.
import { useLayoutEffect } from 'preact/hooks';
import { APP_PAGES, SERVER_PAGES } from './pages';
import { go, href } from './router';

const CHORD_MS = 1500;

/** Where `g` and `key` lead, if anywhere. */
export function chordTarget(key: string, appId: string | undefined): string | undefined {
  const server = SERVER_PAGES.find(({ chord }) => chord === key);
  if (server) return href(server.path ? [server.path] : []);
  const page = APP_PAGES.find(({ chord }) => chord === key);
  if (!page || appId === undefined) return undefined;
  return href(['apps', appId, ...(page.path ? [page.path] : [])]);
}

/** Whether a key belongs to what has the focus. */
export function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable);
}

export function useChords({ search, help, appId }: { search: () => void; help: () => void; appId: string | undefined }): void {
  useLayoutEffect(() => {
    // When `g` was pressed.
    let since = -Infinity;
    const listener = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector('dialog[open]')) return;
      const chord = event.timeStamp - since < CHORD_MS;
      since = -Infinity;
      if (chord) {
        const target = chordTarget(event.key, appId);
        if (target) {
          event.preventDefault();
          go(target);
        }
        return;
      }
      if (event.key === 'g') since = event.timeStamp;
      else if (event.key === '/') search();
      else if (event.key === '?') help();
      else return;
      event.preventDefault();
    };
    document.addEventListener('keydown', listener);
    return () => document.removeEventListener('keydown', listener);
  }, [appId]);
}
