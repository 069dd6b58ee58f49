import { api, type Schemas, take } from '../api/client';
import { count } from '../format';
import { href, route, setQuery } from '../router';
import { whyNot } from '../session';
import { Badge, Button, Code, Facts, Page, Panel, Select, TextField, Time } from '../ui/controls';
import { ask } from '../ui/dialog';
import { Empty, Loaded, useResource } from '../ui/resource';
import { Filters } from '../ui/filters';
import { useSettled } from '../ui/settled';
import { Listing, Table, usePages } from '../ui/table';
import { toast } from '../ui/toast';
import { EVENTS } from './webhooks';

type DeliveryState = Schemas['DeliveryState'];

const STATES: Record<DeliveryState, 'good' | 'warn' | 'bad' | 'plain'> = { waiting: 'warn', delivered: 'good', failed: 'bad', kept: 'plain' };
const STATE_OPTIONS = [['', 'all'], ...Object.keys(STATES).map((state) => [state, state] as const)] as readonly (readonly [DeliveryState | '', string])[];
const EVENT_OPTIONS = [['', 'all'], ...EVENTS.map((event) => [event, event] as const)] as readonly (readonly [Schemas['WebhookEvent'] | '', string])[];

export function Deliveries({ appId, webhookId, hasUrl }: { appId: string; webhookId: string; hasUrl: boolean }) {
  const { query } = route.value;
  const path = { app_id: appId, webhook_id: webhookId };
  const state = STATE_OPTIONS.find(([name]) => name === query.get('state'))?.[0] ?? '';
  const event = EVENT_OPTIONS.find(([name]) => name === query.get('event'))?.[0] ?? '';
  const channel = useSettled(query.get('channel') ?? '');
  const filters = { ...(state ? { state } : {}), ...(event ? { event } : {}), ...(channel ? { channel } : {}) };
  const pages = usePages(
    (cursor) =>
      take(api.GET('/api/v1/apps/{app_id}/webhooks/{webhook_id}/deliveries', { params: { path, query: { ...filters, ...(cursor ? { cursor } : {}) } } })),
    [appId, webhookId, state, event, channel],
  );
  const reason = whyNot('app-admin') ?? (hasUrl ? undefined : 'The webhook has no URL to send to.');
  const replay = (body: Schemas['ReplayRequest']) => take(api.POST('/api/v1/apps/{app_id}/webhooks/{webhook_id}/replay', { params: { path }, body }));
  const replayOne = async (sequence: number) => {
    await replay({ sequences: [sequence] });
    toast(`Delivery ${sequence} is sent again.`);
    await pages.reload();
  };
  const replayAll = async () => {
    const body = { ...filters, ...(Object.keys(filters).length === 0 ? { after: 0 } : {}) };
    const { deliveries, next } = await replay({ ...body, dry_run: true });
    ask({
      title: `Send ${next === null ? '' : 'the first '}${count(deliveries)} deliveries again?`,
      body: <p>{Object.keys(filters).length > 0 ? 'All that the filters show' : 'All that are kept'}. Receivers know by the id that they had them.</p>,
      action: 'Send again',
      run: async () => {
        const sent = await replay(body);
        toast(`${count(sent.deliveries)} deliveries are sent again.`);
        await pages.reload();
      },
    });
  };
  return (
    <Panel
      title="Deliveries"
      actions={
        <>
          <Button onClick={pages.reload}>Look again</Button>
          <Button onClick={replayAll} reason={reason}>
            Send these again
          </Button>
        </>
      }
    >
      <Filters set={[state, event, channel].filter(Boolean).length}>
        <Select label="State" value={state} options={STATE_OPTIONS} onChange={(value) => setQuery({ state: value })} />
        <Select label="Event" value={event} options={EVENT_OPTIONS} onChange={(value) => setQuery({ event: value })} />
        <TextField label="Channel" value={query.get('channel') ?? ''} onInput={(value) => setQuery({ channel: value })} />
      </Filters>
      <Listing
        pages={pages}
        label="Deliveries"
        rowKey={({ sequence }) => sequence}
        empty={<Empty title={state || event || channel ? 'No delivery matches' : 'Nothing was to be told yet'} />}
        columns={[
          { name: 'Number', cell: ({ sequence }) => <a href={href(['apps', appId, 'webhooks', webhookId, 'deliveries', String(sequence)])}>{sequence}</a> },
          { name: 'State', cell: (it) => <Badge kind={STATES[it.state]}>{it.state}</Badge> },
          { name: 'Events', cell: ({ names }) => names.join(', ') },
          { name: 'Channel', cell: (it) => it.channel ?? 'several' },
          { name: 'Recorded', cell: ({ created_at }) => <Time at={created_at} /> },
          { name: 'Attempts', number: true, cell: ({ attempt_count }) => count(attempt_count) },
          {
            name: 'Actions',
            cell: ({ sequence }) => (
              <Button kind="quiet" label={`Send again: delivery ${sequence}`} reason={reason} onClick={() => replayOne(sequence)}>
                Send again
              </Button>
            ),
          },
        ]}
      />
    </Panel>
  );
}

export function DeliveryPage({ appId, webhookId, sequence }: { appId: string; webhookId: string; sequence: string }) {
  const path = { app_id: appId, webhook_id: webhookId, sequence: Number(sequence) };
  const delivery = useResource(() => take(api.GET('/api/v1/apps/{app_id}/webhooks/{webhook_id}/deliveries/{sequence}', { params: { path } })), [appId, webhookId, sequence], 1_000);
  const replay = async () => {
    const { app_id, webhook_id } = path;
    await take(api.POST('/api/v1/apps/{app_id}/webhooks/{webhook_id}/replay', { params: { path: { app_id, webhook_id } }, body: { sequences: [path.sequence] } }));
    toast('It is sent again.');
    await delivery.reload();
  };
  return (
    <Page
      title={`Delivery ${sequence}`}
      actions={
        <>
          <a class="button" href={href(['apps', appId, 'webhooks', webhookId])}>
            The webhook
          </a>
          <Button onClick={replay} reason={whyNot('app-admin')}>
            Send again
          </Button>
        </>
      }
    >
      <Loaded from={delivery}>
        {(it) => (
          <>
            <Panel title="Delivery">
              <Facts
                of={[
                  ['State', <Badge kind={STATES[it.state]}>{it.state}</Badge>],
                  ['Events', it.names.join(', ')],
                  ['Channel', it.channel],
                  ['Recorded', <Time at={it.created_at} />],
                  ['Finished', it.finished_at ? <Time at={it.finished_at} /> : 'not yet'],
                  ['Id', <code>{it.id}</code>],
                ]}
              />
              <Code text={JSON.stringify(it.events, null, 2)} what="the events" />
            </Panel>
            <Panel title="Attempts">
              {it.attempts.length === 0 ? (
                <p class="dim">It was not sent yet.</p>
              ) : (
                <Table
                  label="Attempts"
                  rows={it.attempts}
                  rowKey={({ attempt, at }) => `${attempt} ${at}`}
                  columns={[
                    { name: 'Attempt', cell: ({ attempt, is_replay }) => <>{attempt} {is_replay && <Badge>sent again</Badge>}</> },
                    { name: 'At', cell: ({ at }) => <Time at={at} /> },
                    {
                      name: 'Answer',
                      cell: ({ status, error }) => <Badge kind={status !== null && status >= 200 && status < 300 ? 'good' : 'bad'}>{error ?? String(status)}</Badge>,
                    },
                    { name: 'Took', number: true, cell: ({ milliseconds }) => `${milliseconds} ms` },
                    { name: 'Node', cell: ({ node }) => node },
                    { name: 'Text', cell: ({ answer, attempt }) => answer && <Code text={answer} what={`the answer to attempt ${attempt}`} /> },
                  ]}
                />
              )}
            </Panel>
          </>
        )}
      </Loaded>
    </Page>
  );
}
