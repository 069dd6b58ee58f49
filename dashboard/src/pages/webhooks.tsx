import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { count } from '../format';
import { go, href } from '../router';
import { whyNot } from '../session';
import { Badge, Button, Check, Code, Copy, Facts, Field, Page, Panel, Select, TextField, Time } from '../ui/controls';
import { ask, FormDialog, Once } from '../ui/dialog';
import { Loaded, useResource } from '../ui/resource';
import { Listing, Table, usePages } from '../ui/table';
import { toast } from '../ui/toast';
import { Deliveries } from './deliveries';

type Webhook = Schemas['Webhook'];
type Event = Schemas['WebhookEvent'];

export const EVENTS: readonly Event[] = ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed', 'client_event', 'cache_miss', 'subscription_count'];

const STATES: Record<Schemas['WebhookState'], 'good' | 'warn' | 'bad'> = { active: 'good', paused: 'warn', disabled: 'bad' };

export function Webhooks({ appId }: { appId: string }) {
  const pages = usePages((cursor) => take(api.GET('/api/v1/apps/{app_id}/webhooks', { params: { path: { app_id: appId }, query: cursor ? { cursor } : {} } })), [appId]);
  const [creating, setCreating] = useState(false);
  const [created, setCreated] = useState<Schemas['CreatedWebhook']>();
  return (
    <Page
      title="Webhooks"
      lead="Requests to your backend when channels become occupied, members join, clients send events, and so on."
      actions={
        <Button kind="main" reason={whyNot('app-admin')} onClick={() => setCreating(true)}>
          Add a webhook
        </Button>
      }
    >
      <Panel title="Webhooks of this app">
        <Listing
          pages={pages}
          label="Webhooks"
          rowKey={({ id }) => id}
          empty="The app has no webhook."
          columns={[
            { name: 'Name', cell: ({ id, name }) => <a href={href(['apps', appId, 'webhooks', id])}>{name}</a> },
            { name: 'URL', cell: ({ url }) => url ?? <span class="dim">none: the receiver asks</span> },
            { name: 'State', cell: State },
            { name: 'Events', cell: ({ events }) => events?.join(', ') ?? 'all' },
            { name: 'Channels', cell: ({ channels }) => channels.join(', ') || 'all' },
            { name: 'Waiting', number: true, cell: ({ health }) => count(health.waiting) },
            { name: 'Last success', cell: ({ health }) => <Time at={health.last_success_at} relative /> },
          ]}
        />
      </Panel>
      {creating && (
        <WebhookForm
          onClose={() => setCreating(false)}
          submit={async ({ headers, ...body }) => {
            const given = Object.fromEntries(Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== null));
            setCreated(await take(api.POST('/api/v1/apps/{app_id}/webhooks', { params: { path: { app_id: appId } }, body: { ...body, headers: given } })));
            await pages.reload();
          }}
        />
      )}
      {created && (
        <Secret
          webhook={created}
          onClose={() => {
            setCreated(undefined);
            go(href(['apps', appId, 'webhooks', created.id]));
          }}
        />
      )}
    </Page>
  );
}

function State({ state, state_reason, health }: Webhook) {
  return (
    <>
      <Badge kind={STATES[state]}>{state}</Badge> {health.failing_since !== null && state === 'active' && <Badge kind="bad">failing</Badge>}
      {state_reason && <div class="dim">{state_reason}</div>}
    </>
  );
}

function Secret({ webhook, onClose }: { webhook: Schemas['CreatedWebhook']; onClose: () => void }) {
  return (
    <Once title={`The secret of ${webhook.name}`} onClose={onClose}>
      <p>
        <code>{webhook.secret}</code> <Copy text={webhook.secret} what="the secret" first />
      </p>
      <p class="dim">Receivers of the format standard verify signatures with it. Those of the format pusher use the secret of the app’s key.</p>
    </Once>
  );
}

interface Draft {
  name: string | null;
  url: string | null;
  events: Event[] | null;
  channels: string[];
  format: Schemas['WebhookFormat'];
  batch: boolean;
  headers: Record<string, string | null>;
}

function WebhookForm({ from, onClose, submit }: { from?: Webhook; onClose: () => void; submit: (draft: Draft) => Promise<void> }) {
  const [name, setName] = useState(from?.name ?? '');
  const [url, setUrl] = useState(from?.url ?? '');
  const [events, setEvents] = useState<ReadonlySet<Event>>(new Set(from ? (from.events ?? EVENTS) : EVENTS));
  const [channels, setChannels] = useState(from?.channels.join('\n') ?? '');
  const [format, setFormat] = useState(from?.format ?? 'pusher');
  const [batch, setBatch] = useState(from?.batch ?? false);
  const [headers, setHeaders] = useState('');
  const [dropped, setDropped] = useState<readonly string[]>([]);
  const toggle = (event: Event, on: boolean) => {
    const next = new Set(events);
    if (on) next.add(event);
    else next.delete(event);
    setEvents(next);
  };
  const send = () => {
    const given: Record<string, string | null> = Object.fromEntries(dropped.map((header) => [header, null]));
    for (const line of headers.split('\n').filter((it) => it.trim())) {
      const at = line.indexOf(':');
      if (at < 1) throw new Error(`The header “${line}” must be “name: value”.`);
      given[line.slice(0, at).trim()] = line.slice(at + 1).trim();
    }
    return submit({
      name: name.trim() || null,
      url: url.trim() || null,
      events: events.size === EVENTS.length ? null : EVENTS.filter((event) => events.has(event)),
      channels: channels.split(/\s+/).filter(Boolean),
      format,
      batch,
      headers: given,
    });
  };
  return (
    <FormDialog title={from ? `Change ${from.name}` : 'Add a webhook'} action={from ? 'Save' : 'Add'} onClose={onClose} submit={async () => send()} reason={events.size === 0 ? 'Choose an event first.' : undefined}>
      <TextField label="Name" value={name} onInput={setName} help="Without one it is that of the URL’s host." input={{ maxlength: 200 }} />
      <TextField label="URL" value={url} onInput={setUrl} help="Without one nothing is sent, and the receiver asks for its deliveries." input={{ type: 'url', placeholder: 'https://backend.example.com/webhooks' }} />
      <fieldset>
        <legend>Events</legend>
        {EVENTS.map((event) => (
          <Check key={event} label={event} checked={events.has(event)} onChange={(on) => toggle(event, on)} />
        ))}
      </fieldset>
      <Field label="Channels" help="Patterns with *, one a line, for example presence-*. Empty: all.">
        {(props) => <textarea {...props} rows={2} value={channels} onInput={(event) => setChannels(event.currentTarget.value)} />}
      </Field>
      <Select
        label="Format"
        value={format}
        onChange={setFormat}
        options={[
          ['pusher', 'pusher: as hosted Pusher sends them'],
          ['standard', 'standard: Standard Webhooks 1.0'],
        ]}
      />
      <Check label="Several events in one request" checked={batch} onChange={setBatch} help="Fewer requests where much happens." />
      <Field label="Headers" help="“name: value”, one a line. Values are never shown again.">
        {(props) => <textarea {...props} rows={2} value={headers} onInput={(event) => setHeaders(event.currentTarget.value)} placeholder="authorization: Bearer …" />}
      </Field>
      {from &&
        Object.keys(from.headers).map((header) => (
          <Check
            key={header}
            label={`Keep the header ${header}`}
            checked={!dropped.includes(header)}
            onChange={(on) => setDropped(on ? dropped.filter((it) => it !== header) : [...dropped, header])}
          />
        ))}
    </FormDialog>
  );
}

const OVERLAPS = [
  ['0', 'end now'],
  ['3600', 'sign for another hour'],
  ['86400', 'sign for another day'],
  ['604800', 'sign for another week'],
] as const;
type Overlap = (typeof OVERLAPS)[number][0];

export function WebhookPage({ appId, webhookId }: { appId: string; webhookId: string }) {
  const path = { app_id: appId, webhook_id: webhookId };
  const webhook = useResource(() => take(api.GET('/api/v1/apps/{app_id}/webhooks/{webhook_id}', { params: { path } })), [appId, webhookId], 5_000);
  const [changing, setChanging] = useState(false);
  const [rotating, setRotating] = useState(false);
  const [secret, setSecret] = useState<Schemas['CreatedWebhook']>();
  const [results, setResults] = useState<Schemas['TestResult'][]>();
  const reason = whyNot('app-admin');
  const it = webhook.value;
  const setState = async (state: 'active' | 'paused') => {
    webhook.put(await take(api.PUT('/api/v1/apps/{app_id}/webhooks/{webhook_id}/state', { params: { path }, body: { state, reason: 'set in the dashboard' } })));
  };
  const setStateWithUndo = async (state: 'active' | 'paused') => {
    // Nobody but the server disables a webhook; not to send is to pause it.
    const before = it?.state === 'active' ? 'active' : 'paused';
    await setState(state);
    toast(state === 'active' ? 'Deliveries are sent again.' : 'Deliveries are recorded and not sent.', { undo: () => setState(before) });
  };
  const test = async () => {
    setResults((await take(api.POST('/api/v1/apps/{app_id}/webhooks/{webhook_id}/test', { params: { path }, body: {} }))).items);
  };
  const remove = () =>
    ask({
      title: `Delete the webhook ${it?.name}?`,
      body: <p>What waits is not sent, and its log is deleted. This can’t be undone.</p>,
      action: 'Delete',
      typed: it?.name ?? '',
      run: async () => {
        await take(api.DELETE('/api/v1/apps/{app_id}/webhooks/{webhook_id}', { params: { path } }));
        toast('Deleted the webhook.');
        go(href(['apps', appId, 'webhooks']));
      },
    });
  return (
    <Page
      title={it?.name ?? 'Webhook'}
      actions={
        it && (
          <>
            <Button onClick={test} reason={reason ?? (it.url ? undefined : 'It has no URL to send to.')}>
              Test
            </Button>
            {it.state === 'active' ? (
              <Button onClick={() => setStateWithUndo('paused')} reason={reason}>
                Pause
              </Button>
            ) : (
              <Button kind="main" onClick={() => setStateWithUndo('active')} reason={reason}>
                Send again
              </Button>
            )}
            <Button onClick={() => setChanging(true)} reason={reason}>
              Change
            </Button>
            <Button onClick={() => setRotating(true)} reason={reason}>
              New secret
            </Button>
            <Button kind="danger" onClick={remove} reason={reason}>
              Delete
            </Button>
          </>
        )
      }
    >
      <Loaded from={webhook}>
        {(shown) => (
          <div class="two">
            <Panel title="Webhook">
              <Facts
                of={[
                  ['State', <State {...shown} />],
                  ['URL', shown.url],
                  ['Events', shown.events?.join(', ') ?? 'all'],
                  ['Channels', shown.channels.join(', ') || 'all'],
                  ['Format', `${shown.format}${shown.batch ? ', several events in a request' : ''}`],
                  ['Headers', Object.keys(shown.headers).join(', ') || null],
                  ['Secrets', <Secrets secrets={shown.secrets} />],
                ]}
              />
            </Panel>
            <Panel title="Health">
              <Facts
                of={[
                  ['Waiting', count(shown.health.waiting)],
                  ['Next attempt', <NextAttempt at={shown.health.next_attempt_at} />],
                  ['Last success', <Time at={shown.health.last_success_at} relative />],
                  ['Last failure', <Time at={shown.health.last_failure_at} relative />],
                  ['Failing since', shown.health.failing_since ? <Time at={shown.health.failing_since} relative /> : null],
                  ['Failures since', count(shown.health.failures)],
                  ['Last number', count(shown.health.last_sequence)],
                ]}
              />
            </Panel>
          </div>
        )}
      </Loaded>
      {results && <Results results={results} />}
      <Deliveries appId={appId} webhookId={webhookId} hasUrl={!!it?.url} />
      {changing && it && (
        <WebhookForm
          from={it}
          onClose={() => setChanging(false)}
          submit={async (draft) => {
            webhook.put(await take(api.PATCH('/api/v1/apps/{app_id}/webhooks/{webhook_id}', { params: { path }, body: draft })));
          }}
        />
      )}
      {rotating && (
        <Rotate
          onClose={() => setRotating(false)}
          submit={async (keep) => {
            setSecret(await take(api.POST('/api/v1/apps/{app_id}/webhooks/{webhook_id}/secrets', { params: { path }, body: { keep_old_for: Number(keep) } })));
            await webhook.reload();
          }}
        />
      )}
      {secret && <Secret webhook={secret} onClose={() => setSecret(undefined)} />}
    </Page>
  );
}

function NextAttempt({ at }: { at: number | null }) {
  if (at === null) return <span class="dim">none</span>;
  return at > Date.now() ? <Time at={at} relative /> : <>due now</>;
}

function Secrets({ secrets }: { secrets: Schemas['SecretTimes'][] }) {
  return (
    <>
      {secrets.map(({ created_at, expires_at }) => (
        <div key={created_at}>
          of <Time at={created_at} />
          {expires_at && <> until <Time at={expires_at} /></>}
        </div>
      ))}
    </>
  );
}

function Rotate({ onClose, submit }: { onClose: () => void; submit: (keep: Overlap) => Promise<void> }) {
  const [keep, setKeep] = useState<Overlap>('86400');
  return (
    <FormDialog title="A new secret" action="Create" onClose={onClose} submit={() => submit(keep)}>
      <p>Requests are signed with all secrets that have not ended, so receivers can change at any time until then.</p>
      <Select label="The present secrets" value={keep} options={OVERLAPS} onChange={setKeep} />
    </FormDialog>
  );
}

function Results({ results }: { results: Schemas['TestResult'][] }) {
  return (
    <Panel title="What the receiver answered to the test">
      <Table
        label="Test"
        rows={results}
        rowKey={({ event }) => event}
        columns={[
          { name: 'Event', cell: ({ event }) => event },
          {
            name: 'Answer',
            cell: ({ status, error }) => <Badge kind={status !== null && status >= 200 && status < 300 ? 'good' : 'bad'}>{error ?? String(status)}</Badge>,
          },
          { name: 'Took', number: true, cell: ({ milliseconds }) => `${milliseconds} ms` },
          { name: 'Text', cell: ({ answer, event }) => answer && <Code text={answer} what={`the answer to ${event}`} /> },
        ]}
      />
    </Panel>
  );
}
