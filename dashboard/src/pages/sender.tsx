import { useState } from 'preact/hooks';
import { api, BASE, requestJson, type Schemas, take } from '../api/client';
import { count, plural } from '../format';
import { href, route, setQuery } from '../router';
import { codeOf, type Draft, EMPTY, isJson, type Language, LANGUAGES, missing, type Mode, requestOf } from '../sender/message';
import { dropSnippet, keepSnippet, loadSnippets } from '../sender/snippets';
import { whyNot } from '../session';
import { Button, Code, Field, Page, Panel, TextField } from '../ui/controls';
import { useResource } from '../ui/resource';
import { Table } from '../ui/table';
import { toast } from '../ui/toast';

const MODES: readonly (readonly [Mode, string, string])[] = [
  ['event', 'Event', 'As a backend publishes it: one event to one or more channels.'],
  ['batch', 'Batch', 'Several events in one request.'],
  ['client', 'Client event', 'As a client sends it to the other subscribers of a private or presence channel. The app’s webhooks get it too.'],
];

interface Sent {
  at: number;
  roundTrip: number;
  answer: Schemas['PublishedEvents'];
}

export function Sender({ appId }: { appId: string }) {
  const { query } = route.value;
  const [draft, setDraft] = useState<Draft>(() => ({
    ...EMPTY,
    mode: MODES.find(([mode]) => mode === query.get('mode'))?.[0] ?? 'event',
    channels: query.get('channel') ?? '',
    event: query.get('event') ?? '',
    socketId: query.get('socket_id') ?? '',
  }));
  const [sent, setSent] = useState<Sent>();
  const [error, setError] = useState<string>();
  const change = (part: Partial<Draft>) => {
    const next = { ...draft, ...part };
    setDraft(next);
    setQuery({ mode: next.mode === 'event' ? '' : next.mode, channel: next.channels, event: next.event, socket_id: next.socketId });
  };
  const send = async () => {
    setError(undefined);
    try {
      const { path, body } = requestOf(draft);
      const started = performance.now();
      const answer = await requestJson<Schemas['PublishedEvents']>(`/api/v1/apps/${encodeURIComponent(appId)}${path}`, { method: 'POST', body: JSON.stringify(body) });
      setSent({ at: Date.now(), roundTrip: performance.now() - started, answer });
    } catch (failure) {
      setSent(undefined);
      setError((failure as Error).message);
    }
  };
  const reason = whyNot('app-admin') ?? missing(draft);
  const [, , lead] = MODES.find(([mode]) => mode === draft.mode) ?? [];
  return (
    <Page title="Sender" lead={lead}>
      <div class="tabs" role="group" aria-label="What is sent">
        {MODES.map(([mode, title]) => (
          <button key={mode} type="button" class="chip" aria-pressed={draft.mode === mode} onClick={() => change({ mode })}>
            {title}
          </button>
        ))}
      </div>
      <div class="two">
        <Panel title="Message">
          <form
            onSubmit={(event) => {
              event.preventDefault();
              if (!reason) void send();
            }}
          >
            {draft.mode === 'batch' ? <BatchFields draft={draft} change={change} /> : <EventFields draft={draft} change={change} />}
            {error && (
              <p class="note bad" role="alert">
                {error}
              </p>
            )}
            <div class="actions">
              <Button type="submit" kind="main" reason={reason}>
                Send
              </Button>
              <Snippets draft={draft} change={change} />
            </div>
          </form>
          {sent && <Result sent={sent} appId={appId} />}
        </Panel>
        <CodePanel draft={draft} appId={appId} />
      </div>
    </Page>
  );
}

type Fields = { draft: Draft; change: (part: Partial<Draft>) => void };

function EventFields({ draft, change }: Fields) {
  const isClient = draft.mode === 'client';
  return (
    <>
      <TextField
        label={isClient ? 'Channel' : 'Channels'}
        value={draft.channels}
        onInput={(channels) => change({ channels })}
        help={isClient ? 'private-… or presence-…' : 'Several with spaces between them.'}
        input={{ placeholder: isClient ? 'private-room-1' : 'news', required: true }}
      />
      <TextField label="Event" value={draft.event} onInput={(event) => change({ event })} input={{ placeholder: isClient ? 'client-typing' : 'headline', required: true }} />
      <Field label="Data" help={isJson(draft.data) ? 'JSON' : 'This is not JSON, so it is sent as a text.'}>
        {(props) => <textarea {...props} rows={7} spellcheck={false} value={draft.data} onInput={(event) => change({ data: event.currentTarget.value })} />}
      </Field>
      {isClient && (
        <TextField label="User" value={draft.userId} onInput={(userId) => change({ userId })} help="Who counts as the sender. Presence channels need one; receivers get it as user_id." />
      )}
      <TextField
        label={isClient ? 'From the connection' : 'Leave out the connection'}
        value={draft.socketId}
        onInput={(socketId) => change({ socketId })}
        help={isClient ? 'The socket id that counts as the sender, and doesn’t get it.' : 'A socket id: usually that of the client that caused the event and has it already.'}
        input={{ placeholder: '123.456' }}
      />
    </>
  );
}

function BatchFields({ draft, change }: Fields) {
  return (
    <Field label="Events" help="An array of events with channel, name and data, and socket_id for a connection that is left out.">
      {(props) => <textarea {...props} rows={14} spellcheck={false} value={draft.batch} onInput={(event) => change({ batch: event.currentTarget.value })} />}
    </Field>
  );
}

function Result({ sent, appId }: { sent: Sent; appId: string }) {
  const { answer, roundTrip } = sent;
  const rows = Object.entries(answer.channels);
  const total = rows.reduce((sum, [, { subscribers }]) => sum + (subscribers ?? 0), 0);
  const took = answer.took_us < 10_000 ? `${answer.took_us} µs` : `${Math.round(answer.took_us / 1000)} ms`;
  return (
    <div role="status">
      <p class="note">
        Sent to {plural(total, 'subscriber')}. The server took {took}; the answer was here after {Math.round(roundTrip)} ms.{' '}
        <a href={href(['apps', appId, 'console'])}>Live console</a>
      </p>
      <Table
        label="Who got it"
        rows={rows}
        rowKey={([name]) => name}
        columns={[
          { name: 'Channel', cell: ([name]) => <a href={href(['apps', appId, 'channels', name])}>{name}</a> },
          { name: 'Subscribers', number: true, cell: ([, { subscribers }]) => (subscribers === null ? 'unknown' : count(subscribers)) },
        ]}
      />
    </div>
  );
}

function Snippets({ draft, change }: Fields) {
  const [list, setList] = useState(loadSnippets);
  const [name, setName] = useState('');
  const keep = () => {
    const next = keepSnippet({ name: name.trim(), draft });
    if (!next) return toast('This browser keeps nothing more; remove a snippet first.', { bad: true });
    setList(next);
    setName('');
  };
  const remove = (snippet: string) => {
    const old = list.find((it) => it.name === snippet);
    setList(dropSnippet(snippet));
    toast(`Removed the snippet “${snippet}”.`, {
      undo: async () => {
        if (old) setList(keepSnippet(old) ?? list);
      },
    });
  };
  return (
    <details>
      <summary>Snippets ({list.length})</summary>
      <TextField label="Keep this message as" value={name} onInput={setName} help="In this browser only." />
      <Button onClick={keep} reason={name.trim() ? undefined : 'Name it first.'}>
        Keep
      </Button>
      <ul>
        {list.map((snippet) => (
          <li key={snippet.name}>
            <Button kind="quiet" onClick={() => change(snippet.draft)}>
              {snippet.name}
            </Button>
            <Button kind="quiet" label={`Remove the snippet ${snippet.name}`} onClick={() => remove(snippet.name)}>
              ×
            </Button>
          </li>
        ))}
      </ul>
    </details>
  );
}

function CodePanel({ draft, appId }: { draft: Draft; appId: string }) {
  const [language, setLanguage] = useState<Language>('curl');
  const keys = useResource(() => take(api.GET('/api/v1/apps/{app_id}/keys', { params: { path: { app_id: appId } } })), [appId]);
  const choices = LANGUAGES[draft.mode];
  const chosen = choices.some(([name]) => name === language) ? language : 'curl';
  const why = missing(draft);
  const key = keys.value?.items.find(({ state }) => state === 'active')?.key ?? 'KEY';
  return (
    <Panel title="The same as code">
      <div class="tabs" role="group" aria-label="Language">
        {choices.map(([name, title]) => (
          <button key={name} type="button" class="chip" aria-pressed={chosen === name} onClick={() => setLanguage(name)}>
            {title}
          </button>
        ))}
      </div>
      {why ? <p class="dim">{why}</p> : <Code text={codeOf(chosen, draft, { server: BASE, appId, key })} what={`the code for ${chosen}`} />}
      <p class="dim">Official Pusher SDKs work with another host. A key’s secret is shown when the key is created; keep it on backends only.</p>
    </Panel>
  );
}
