// What is around every page: sign-in, navigation, search, help, keyboard.
import type { ComponentType } from 'preact';
import { useEffect, useErrorBoundary, useRef, useState } from 'preact/hooks';
import { BASE } from './api/client';
import { apps, loadApps, loadDemo } from './apps';
import { docsUrl, hasDocs, lookForDocs } from './docs';
import { useChords } from './keyboard';
import { APP_PAGES, match, SERVER_PAGES, type NavItem } from './pages';
import { go, href, route } from './router';
import { Help, Search } from './search';
import { loadMe, me, meError, signOut, whyNot } from './session';
import { scheme, type Scheme } from './theme';
import { SignIn } from './pages/sign-in';
import { Button, Page } from './ui/controls';
import { Questions } from './ui/dialog';
import { Empty, Failed, Loading } from './ui/resource';
import { Toasts } from './ui/toast';

export function Shell() {
  const who = me.value;
  if (who === undefined) return meError.value ? <Failed error={meError.value} retry={loadMe} /> : <Loading />;
  if (who === null || route.value.path[0] === 'sign-in') return <SignIn />;
  return <SignedIn key={who.id} />;
}

function SignedIn() {
  const [open, setOpen] = useState<'search' | 'help' | null>(null);
  useEffect(() => {
    loadApps().catch(() => {});
    void loadDemo(BASE);
    lookForDocs();
  }, []);
  const { path } = route.value;
  const appId = path[0] === 'apps' ? path[1] : undefined;
  useChords({ search: () => setOpen('search'), help: () => setOpen('help'), appId });
  return (
    <>
      <a class="skip" href="#content" onClick={toContent}>
        Skip to the content
      </a>
      <header class="top">
        <details class="menu">
          <summary aria-label="Navigation">☰</summary>
          <Navigation appId={appId} label="Pages, short" />
        </details>
        <a class="brand" href={href([])}>
          Fanfare
        </a>
        <button type="button" class="search" onClick={() => setOpen('search')}>
          Search <kbd>/</kbd>
        </button>
        <Documentation />
        <SchemeSwitch />
        <Button kind="quiet" label="Keyboard and help" onClick={() => setOpen('help')}>
          ?
        </Button>
        <Account />
      </header>
      <div class="columns">
        <Navigation appId={appId} label="Pages" />
        <main id="content" tabIndex={-1} data-address={path.join('/')}>
          <CurrentPage />
        </main>
      </div>
      {open === 'search' && <Search appId={appId} onClose={() => setOpen(null)} />}
      {open === 'help' && <Help onClose={() => setOpen(null)} />}
      <Questions />
      <Toasts />
    </>
  );
}

/** Leads to what explains this page, in a tab of its own. */
function Documentation() {
  if (!hasDocs.value) return null;
  const chapter = match(route.value.path)?.chapter ?? 'docs/';
  return (
    <a href={docsUrl(chapter)} target="_blank" rel="noreferrer">
      Docs
    </a>
  );
}

/** The address belongs to the router, so the link moves the focus by itself. */
function toContent(event: Event): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}

function Navigation({ appId, label }: { appId: string | undefined; label: string }) {
  const known = apps.value.find(({ id }) => id === appId);
  return (
    <nav aria-label={label}>
      <Links items={SERVER_PAGES} under={[]} />
      {appId !== undefined && (
        <>
          <div class="nav-app" title={appId}>
            {known?.name ?? appId}
          </div>
          <Links items={APP_PAGES} under={['apps', appId]} />
        </>
      )}
    </nav>
  );
}

function Links({ items, under }: { items: readonly NavItem[]; under: string[] }) {
  const { path } = route.value;
  return (
    <ul>
      {items.map(({ path: part, title, need }) => {
        const target = part ? [...under, part] : under;
        const exact = part === '' || part === 'apps';
        const here = target.every((it, at) => it === path[at]) && (!exact || path.length === target.length);
        const reason = need && whyNot(need);
        return (
          <li key={part}>
            <a href={href(target)} aria-current={here ? 'page' : undefined} class={reason ? 'dim' : undefined} title={reason} onClick={closeMenu}>
              {title}
              {reason && <span class="hidden"> ({reason})</span>}
            </a>
          </li>
        );
      })}
    </ul>
  );
}

function closeMenu(): void {
  document.querySelector('details.menu[open]')?.removeAttribute('open');
}

const NEXT: Record<Scheme, Scheme> = { system: 'light', light: 'dark', dark: 'system' };
const SIGN: Record<Scheme, string> = { system: '◐', light: '○', dark: '●' };

function SchemeSwitch() {
  const now = scheme.value;
  return (
    <Button kind="quiet" label={`Colours: ${now}; switch to ${NEXT[now]}`} onClick={() => (scheme.value = NEXT[now])}>
      {SIGN[now]}
    </Button>
  );
}

function Account() {
  const who = me.value;
  if (!who) return null;
  const leave = async () => {
    await signOut();
    go(href([]));
  };
  return (
    <span class="account">
      <span class="who">
        {who.name} <span class="dim">{who.role}</span>
      </span>
      <Button kind="quiet" onClick={leave}>
        Sign out
      </Button>
    </span>
  );
}

/** A page that fails while it is drawn says so, and the rest goes on. */
function Guarded({ component: Component, params }: { component: ComponentType<Record<string, string>>; params: Record<string, string> }) {
  const [broken, again] = useErrorBoundary((error: unknown) => console.error(error));
  if (broken) return <Failed error={new Error(`This page can’t be shown: ${String(broken)}`)} retry={again} />;
  return <Component {...params} />;
}

function CurrentPage() {
  const path = route.value.path;
  const found = match(path);
  const [page, setPage] = useState<{ component: ComponentType<Record<string, string>>; load: unknown }>();
  const [error, setError] = useState<Error>();
  const first = useRef(true);
  const load = found?.load;
  const show = () => {
    setError(undefined);
    load?.().then(
      (component) => setPage({ component, load }),
      () => setError(new Error('This part of the dashboard could not be loaded. If the server was updated, reload the page.')),
    );
  };
  useEffect(show, [load]);
  const address = path.join('/');
  useEffect(() => {
    // Screen readers and the keyboard go on at the new page, and not on the link that led to it.
    if (!first.current && !document.querySelector('dialog[open]')) {
      document.getElementById('content')?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    first.current = false;
  }, [address]);
  if (!found) {
    return (
      <Empty title="There is no such page">
        <a href={href([])}>Go to the overview</a>
      </Empty>
    );
  }
  const own = SERVER_PAGES.find((it) => it.path === address);
  const reason = own?.need && whyNot(own.need);
  if (own && reason) {
    return (
      <Page title={own.title}>
        <Empty title="You may not see this page">{reason}</Empty>
      </Page>
    );
  }
  if (error) return <Failed error={error} retry={show} />;
  if (!page || page.load !== load) return <Loading />;
  return <Guarded key={address} component={page.component} params={found.params} />;
}
