import { useEffect, useMemo, useState } from 'preact/hooks';
import { BASE } from '../api/client';
import { Feed, type Filters } from '../console/feed';
import { KIND_TITLES, KINDS, type Kind, type LiveLine } from '../console/line';
import { ConsoleList } from '../console/list';
import { bytes, count, localTime, pretty, utc } from '../format';
import { isTyping } from '../keyboard';
import { href, route, setQuery } from '../router';
import { shellQuoted } from '../shell-quoted';
import { Badge, Button, Code, Copy, Facts, Page, TextField } from '../ui/controls';
import { Folded } from '../ui/filters';
import { narrow } from '../ui/narrow';
import { Empty } from '../ui/resource';

const DEFAULT_RATE = 50;
const MAX_RATE = 200;
/** How long typing must rest until the stream is opened with new filters. */
const REST_MS = 400;

/** The filters of the address. Values that the server would refuse become the nearest that it takes. */
export function filtersOf(query: URLSearchParams): Filters {
  const text = (name: string) => query.get(name) ?? '';
  const rate = Math.round(Number(query.get('rate')));
  return {
    kinds: text('kinds')
      .split(',')
      .filter((kind) => (KINDS as readonly string[]).includes(kind))
      .join(','),
    channel: text('channel'),
    event: text('event'),
    user_id: text('user_id'),
    socket_id: text('socket_id'),
    text: text('text'),
    rate: rate > 0 ? Math.min(rate, MAX_RATE) : DEFAULT_RATE,
  };
}

export function ConsolePage({ appId }: { appId: string }) {
  return (
    <Page title="Live console" lead="What happens in this app, on all nodes, while it happens.">
      <LiveConsole appId={appId} />
    </Page>
  );
}

export function LiveConsole({ appId, fixed }: { appId: string; fixed?: Partial<Filters> }) {
  const wanted = { ...filtersOf(route.value.query), ...fixed };
  const key = JSON.stringify(wanted);
  const [settled, setSettled] = useState(key);
  useEffect(() => {
    if (key === settled) return;
    const timer = setTimeout(() => setSettled(key), REST_MS);
    return () => clearTimeout(timer);
  }, [key, settled]);
  const feed = useMemo(() => new Feed(appId, JSON.parse(settled) as Filters), [appId, settled]);
  useEffect(() => () => feed.close(), [feed]);
  const [chosen, choose] = useState<LiveLine>();
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      if (event.key !== 'p' || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      togglePause(feed);
    };
    document.addEventListener('keydown', listener);
    return () => document.removeEventListener('keydown', listener);
  }, [feed]);
  return (
    <div class="console">
      {!fixed && <FilterBar filters={wanted} />}
      <StatusBar feed={feed} appId={appId} filters={wanted} settled={key === settled} />
      <div class={chosen ? 'console-body split' : 'console-body'}>
        <div class="lines-box">
          <ConsoleList key={settled} feed={feed} selected={chosen?.id} onSelect={choose} />
          <Nothing feed={feed} />
        </div>
        {chosen && <LineDetails appId={appId} line={chosen} feed={feed} onClose={() => choose(undefined)} />}
      </div>
    </div>
  );
}

function togglePause(feed: Feed): void {
  if (feed.paused.value) feed.resume();
  else feed.pause();
}

function Nothing({ feed }: { feed: Feed }) {
  void feed.version.value;
  if (feed.rows.length > 0) return null;
  const state = feed.state.value;
  if (state.at !== 'open') return null;
  const { rate: _, ...filters } = feed.filters;
  if (Object.values(filters).some(Boolean)) return <Empty title="Nothing matches the filters">Whatever matches from now on appears here.</Empty>;
  return <Empty title="Nothing has happened yet">Of apps that nobody watches, only refusals are kept. Whatever happens from now on appears here: a connection, a subscription, an event, a refusal.</Empty>;
}

function FilterBar({ filters }: { filters: Filters }) {
  const set = (name: keyof Filters) => (value: string) => setQuery({ [name]: value });
  const chosen = new Set(filters.kinds.split(',').filter(Boolean));
  const toggle = (kind: Kind) => {
    if (chosen.has(kind)) chosen.delete(kind);
    else chosen.add(kind);
    setQuery({ kinds: KINDS.filter((it) => chosen.has(it)).join(',') });
  };
  const filled = [filters.kinds, filters.channel, filters.event, filters.user_id, filters.socket_id, filters.text].filter(Boolean).length;
  const form = (
    <form class="filters" role="search" aria-label="Filters of the live events" onSubmit={(event) => event.preventDefault()}>
      <fieldset class="kinds">
        <legend>Kinds{chosen.size === 0 && <span class="dim"> (all)</span>}</legend>
        {KINDS.map((kind) => (
          <button key={kind} type="button" class="chip" aria-pressed={chosen.has(kind)} onClick={() => toggle(kind)}>
            {KIND_TITLES[kind]}
          </button>
        ))}
      </fieldset>
      <div class="row">
        <TextField label="Channel" value={filters.channel} onInput={set('channel')} input={{ placeholder: 'room-*' }} />
        <TextField label="Event" value={filters.event} onInput={set('event')} input={{ placeholder: 'order-*' }} />
        <TextField label="User" value={filters.user_id} onInput={set('user_id')} />
        <TextField label="Socket id" value={filters.socket_id} onInput={set('socket_id')} input={{ placeholder: '123.456' }} />
        <TextField label="Text" value={filters.text} onInput={set('text')} input={{ placeholder: 'in data or reasons' }} />
        <div class="field">
          <label for="speed">Speed: {filters.rate} a second</label>
          <input
            id="speed"
            type="range"
            min={1}
            max={MAX_RATE}
            value={filters.rate}
            onInput={(event) => setQuery({ rate: event.currentTarget.value === String(DEFAULT_RATE) ? '' : event.currentTarget.value })}
          />
        </div>
        {filled > 0 && (
          <Button onClick={() => setQuery({ kinds: '', channel: '', event: '', user_id: '', socket_id: '', text: '' })}>Remove all filters</Button>
        )}
      </div>
    </form>
  );
  return narrow.value ? <Folded set={filled}>{form}</Folded> : form;
}

function StatusBar({ feed, appId, filters, settled }: { feed: Feed; appId: string; filters: Filters; settled: boolean }) {
  const state = feed.state.value;
  const hello = feed.hello.value;
  const paused = feed.paused.value;
  const held = feed.held.value;
  void feed.version.value;
  return (
    <div class="status-bar">
      <Button pressed={paused} onClick={() => togglePause(feed)}>
        {paused ? `Go on${held > 0 ? ` (${count(held)} waiting)` : ''}` : 'Pause'}
      </Button>
      <Button onClick={() => feed.clear()}>Clear</Button>
      <span role="status">
        {!settled ? (
          <Badge>changing the filters</Badge>
        ) : state.at === 'open' ? (
          <Badge kind={paused ? 'warn' : 'good'}>{paused ? 'paused' : 'live'}</Badge>
        ) : state.at === 'connecting' ? (
          <Badge>connecting</Badge>
        ) : (
          <Badge kind="bad">{state.at === 'again' ? 'interrupted' : 'ended'}</Badge>
        )}
      </span>
      {(state.at === 'again' || state.at === 'ended') && <span class="bad">{state.because}</span>}
      {hello && <span class="dim">{hello.nodes === 1 ? 'one node' : `${hello.nodes} nodes`}</span>}
      {feed.leftOut > 0 && <span class="warn">{count(feed.leftOut)} left out</span>}
      {hello?.payloads_hidden_because && <span class="dim">Data is not shown: {hello.payloads_hidden_because}</span>}
      <span class="spacer" />
      <Copy text={tailCommand(appId, filters)} what="the same as a command" name="copy as command" />
    </div>
  );
}

/** The same view in a terminal. */
export function tailCommand(appId: string, filters: Filters): string {
  const flags: string[] = [];
  const names = { kinds: 'kinds', channel: 'channel', event: 'event', user_id: 'user', socket_id: 'socket-id', text: 'text' } as const;
  for (const [name, flag] of Object.entries(names)) {
    const value = filters[name as keyof typeof names];
    // A value that looks like a flag must be part of its own.
    if (value) flags.push(`--${flag}${value.startsWith('-') ? '=' : ' '}${shellQuoted(value)}`);
  }
  if (filters.rate !== DEFAULT_RATE) flags.push(`--rate ${filters.rate}`);
  return ['fanfare tail', '--app', shellQuoted(appId), ...flags, '--server', shellQuoted(BASE), '--token-file token.txt'].join(' ');
}

function LineDetails({ appId, line, feed, onClose }: { appId: string; line: LiveLine; feed: Feed; onClose: () => void }) {
  const hidden = feed.hello.value?.payloads_hidden_because;
  const app = ['apps', appId];
  useEffect(() => {
    const listener = ({ key }: KeyboardEvent) => {
      if (key === 'Escape' && !document.querySelector('dialog[open]')) onClose();
    };
    document.addEventListener('keydown', listener);
    return () => document.removeEventListener('keydown', listener);
  });
  const facts: [string, preact.ComponentChildren][] = [
    ['Time', <span title={utc(line.time_ms)}>{localTime(line.time_ms)}</span>],
    ['Node', line.node],
  ];
  if (line.channel) facts.push(['Channel', <a href={href([...app, 'channels', line.channel])}>{line.channel}</a>]);
  if (line.event) facts.push(['Event', line.event]);
  if (line.socket_id) facts.push(['Connection', <a href={href([...app, 'connections', line.socket_id])}>{line.socket_id}</a>]);
  if (line.user_id) facts.push(['User', <a href={href([...app, 'connections'], { user_id: line.user_id })}>{line.user_id}</a>]);
  if (line.subscribers !== undefined) facts.push(['Subscribers', count(line.subscribers)]);
  if (line.refusal) facts.push(['Refusal', line.refusal]);
  if (line.reason) facts.push(['Reason', line.reason]);
  if (line.code !== undefined) facts.push(['Code', String(line.code)]);
  if (line.key) facts.push(['Key', line.key]);
  if (line.address) facts.push(['Address', line.address]);
  if (line.client) facts.push(['Client', line.client]);
  if (line.transport) facts.push(['Transport', line.transport]);
  if (line.webhook_id) facts.push(['Webhook', <a href={href([...app, 'webhooks', line.webhook_id])}>{line.webhook_id}</a>]);
  if (line.delivery !== undefined) facts.push(['Delivery', String(line.delivery)]);
  if (line.status !== undefined) facts.push(['Answer', String(line.status)]);
  if (line.took_ms !== undefined) facts.push(['Took', `${line.took_ms} ms`]);
  if (line.data_bytes !== undefined) facts.push(['Data', bytes(line.data_bytes)]);
  return (
    <aside class="details" aria-label="The chosen line">
      <header>
        <h2>{KIND_TITLES[line.kind] ?? line.kind}</h2>
        <Copy text={JSON.stringify(line, null, 2)} what="the line as JSON" />
        <Button kind="quiet" label="Close" onClick={onClose}>
          ×
        </Button>
      </header>
      <Facts of={facts} />
      {line.data !== undefined ? <Code text={pretty(line.data)} what="the data" /> : line.data_bytes !== undefined && hidden && <p class="dim">{hidden}</p>}
      {line.data_truncated && <p class="dim">Only the beginning is shown.</p>}
      {line.event && line.channel && (line.kind === 'publish' || line.kind === 'client_event') && (
        <p>
          <a href={href([...app, 'explain'], { channel: line.channel, event: line.event })}>Why did a client not get this?</a>
        </p>
      )}
    </aside>
  );
}
