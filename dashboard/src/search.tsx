// The search for apps and pages, and the list of keys.
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { api, take } from './api/client';
import { apps, loadApps } from './apps';
import { APP_PAGES, SERVER_PAGES } from './pages';
import { go, href } from './router';
import { Dialog } from './ui/dialog';

export interface Hit {
  title: string;
  note: string;
  target: string;
}

const MAX_HITS = 12;

/** Pages and apps whose names have all the words of the question, best first. */
export function find(question: string, appId: string | undefined, list: readonly { id: string; name: string }[]): Hit[] {
  const words = question.toLowerCase().split(/\s+/).filter(Boolean);
  const all: Hit[] = [];
  if (appId !== undefined) {
    const name = list.find(({ id }) => id === appId)?.name ?? appId;
    for (const { path, title } of APP_PAGES) all.push({ title, note: name, target: href(['apps', appId, ...(path ? [path] : [])]) });
  }
  for (const { path, title } of SERVER_PAGES) all.push({ title, note: 'server', target: href(path ? [path] : []) });
  for (const { id, name } of list) {
    all.push({ title: name, note: `app ${id}`, target: href(['apps', id]) });
    // The pages of other apps only for those who ask for more than the app.
    if (words.length < 2 || id === appId) continue;
    for (const { path, title } of APP_PAGES.slice(1)) all.push({ title: `${title} of ${name}`, note: `app ${id}`, target: href(['apps', id, path]) });
  }
  const text = ({ title, note }: Hit) => `${title} ${note}`.toLowerCase();
  const begins = (hit: Hit) => Number(!hit.title.toLowerCase().startsWith(words[0] ?? ''));
  return all
    .filter((hit) => words.every((word) => text(hit).includes(word)))
    .sort((a, b) => begins(a) - begins(b))
    .slice(0, MAX_HITS);
}

export function Search({ appId, onClose }: { appId: string | undefined; onClose: () => void }) {
  const [question, setQuestion] = useState('');
  const [at, setAt] = useState(0);
  const [extra, setExtra] = useState<{ id: string; name: string }[]>([]);
  const list = useId();
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current?.focus(), []);
  useEffect(() => {
    loadApps().catch(() => {});
  }, []);
  useEffect(() => {
    // An app beyond the first page is found by its id.
    const id = question.trim();
    setExtra([]);
    if (!id || apps.peek().length < 200) return;
    let stale = false;
    take(api.GET('/api/v1/apps/{app_id}', { params: { path: { app_id: id } } })).then(
      (app) => stale || setExtra([app]),
      () => {},
    );
    return () => {
      stale = true;
    };
  }, [question]);
  const known = new Set(apps.value.map(({ id }) => id));
  const hits = find(question, appId, [...apps.value, ...extra.filter(({ id }) => !known.has(id))]);
  const open = (hit: Hit | undefined) => {
    if (!hit) return;
    onClose();
    go(hit.target);
  };
  const key = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      setAt((at + step + hits.length) % Math.max(hits.length, 1));
    } else if (event.key === 'Enter') {
      event.preventDefault();
      open(hits[at]);
    }
  };
  return (
    <Dialog title="Go to" onClose={onClose}>
      <input
        ref={input}
        class="wide"
        type="text"
        role="combobox"
        aria-label="Name of an app or a page"
        aria-expanded="true"
        aria-controls={list}
        aria-activedescendant={hits[at] ? `${list}-${at}` : undefined}
        autocomplete="off"
        placeholder="An app, its id, or a page"
        value={question}
        onKeyDown={key}
        onInput={(event) => {
          setQuestion(event.currentTarget.value);
          setAt(0);
        }}
      />
      <ul class="hits" id={list} role="listbox" aria-label="Results">
        {hits.map((hit, index) => (
          <li key={hit.target} id={`${list}-${index}`} role="option" aria-selected={index === at} onClick={() => open(hit)}>
            {hit.title} <span class="dim">{hit.note}</span>
          </li>
        ))}
      </ul>
      {hits.length === 0 && (
        <p class="dim" role="status">
          Nothing has this name.
        </p>
      )}
    </Dialog>
  );
}

export function Help({ onClose }: { onClose: () => void }) {
  const keys: [string, string][] = [
    ['/', 'Search for an app or a page'],
    ['?', 'This list'],
    ['Esc', 'Close what is open'],
    ['p', 'In the live console: pause, and go on'],
    ...SERVER_PAGES.map(({ chord, title }): [string, string] => [`g ${chord}`, title]),
    ...APP_PAGES.map(({ chord, title }): [string, string] => [`g ${chord}`, `${title}, of the app that is open`]),
  ];
  return (
    <Dialog title="Keyboard" onClose={onClose} wide>
      <dl class="keys">
        {keys.map(([key, what]) => (
          <div key={key}>
            <dt>
              {key.split(' ').map((part) => (
                <kbd key={part}>{part}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p>
        The address of a view holds its filters, so a link shows others the same. Times are those of your zone; hold the pointer over one for UTC. <a href="./docs/api/">The HTTP APIs</a> do
        all of this for programs.
      </p>
    </Dialog>
  );
}
