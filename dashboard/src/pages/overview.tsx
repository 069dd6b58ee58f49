import { useRef, useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { loadNodesIfAllowed, type NodeList, totalsOf } from '../api/nodes';
import { apps, demo } from '../apps';
import { bytes, count, duration, rate } from '../format';
import { ratesBetween } from '../rates';
import { href, route, setQuery } from '../router';
import { me, seesAllApps, whyNot } from '../session';
import { Badge, Button, Page, Panel, Select, Tile, Time } from '../ui/controls';
import { Empty, Loaded, useResource } from '../ui/resource';
import { Table } from '../ui/table';
import { toast } from '../ui/toast';
import { AlertRows } from './alerts';
import { LiveConsole } from './console';
import { UsageCharts } from './usage-charts';

const EVERY_MS = 2_000;
export const RANGES = [
  ['1h', 'the last hour'],
  ['6h', 'the last 6 hours'],
  ['24h', 'the last day'],
  ['7d', 'the last 7 days'],
  ['30d', 'the last 30 days'],
] as const;
export type RangeName = (typeof RANGES)[number][0];
const HOURS: Record<RangeName, number> = { '1h': 1, '6h': 6, '24h': 24, '7d': 168, '30d': 720 };

export function rangeStart(name: RangeName): string {
  return String(Date.now() - HOURS[name] * 3_600_000);
}

export function rangeOf(query: URLSearchParams): RangeName {
  const name = query.get('range');
  return RANGES.find(([it]) => it === name)?.[0] ?? '1h';
}

export function Overview() {
  const range = rangeOf(route.value.query);
  return (
    <Page title="Overview">
      <DemoCard />
      {seesAllApps.value ? <Numbers /> : <p class="note">You see {me.value?.apps?.length === 1 ? 'one app' : `${me.value?.apps?.length} apps`}; numbers of the whole installation need rights on all apps.</p>}
      {seesAllApps.value && (
        <Panel
          title="Over time"
          actions={<Select label="Range" value={range} options={RANGES} onChange={(value) => setQuery({ range: value === '1h' ? '' : value })} />}
        >
          <UsageOfAll range={range} />
        </Panel>
      )}
      <OpenAlerts />
      <AppList />
    </Page>
  );
}

/** What a new user sees first: the demo app's events, and a button that makes one. */
function DemoCard() {
  const app = demo.value;
  const [sent, setSent] = useState(0);
  // The page tells everybody of the demo app; the operator may not see it.
  if (!app || !apps.value.some(({ id }) => id === app.id)) return null;
  const send = async () => {
    const data = { text: `Hello number ${sent + 1} from the dashboard` };
    await take(api.POST('/api/v1/apps/{app_id}/events', { params: { path: { app_id: app.id } }, body: { name: 'greeting', channels: ['demo'], data: data as never } }));
    setSent(sent + 1);
    toast('Sent. It is in the list below and on the demo page.');
  };
  return (
    <Panel
      title="Try it: the demo app"
      actions={
        <>
          <a class="button" href="demo" target="_blank" rel="noreferrer">
            Open the demo page
          </a>
          <Button kind="main" onClick={send} reason={whyNot('app-admin')}>
            Send a test event
          </Button>
        </>
      }
    >
      <p class="lead">
        Open the demo page in a second window, send a test event, and watch it arrive in both. The <a href={href(['apps', app.id, 'console'])}>live console</a> has filters, and the{' '}
        <a href={href(['apps', app.id, 'sender'])}>sender</a> sends what you like.
      </p>
      <div class="short">
        <LiveConsole appId={app.id} fixed={NO_FILTERS} />
      </div>
    </Panel>
  );
}

const NO_FILTERS = { kinds: '', channel: '', event: '', user_id: '', socket_id: '', text: '', rate: 50 };

function Numbers() {
  const before = useRef<NodeList | undefined>(undefined);
  const [rates, setRates] = useState<Record<string, number>>();
  const nodes = useResource(
    async () => {
      const list = await loadNodesIfAllowed();
      if (list && before.current) setRates(sumOfRates(before.current, list));
      before.current = list;
      return list;
    },
    [],
    EVERY_MS,
  );
  const server = useResource(() => take(api.GET('/api/v1/server')), [], 5 * EVERY_MS);
  return (
    <>
      <div class="tiles">
        <Tile
          label="Connections"
          value={nodes.value ? count(nodes.value.nodes.reduce((sum, node) => sum + node.connections, 0)) : count(server.value?.connections ?? 0)}
        />
        <Tile label="Messages a second" value={rates ? rate((rates.events_published ?? 0) + (rates.messages_received ?? 0)) : '–'} note="from backends and clients" />
        <Tile label="Deliveries a second" value={rates ? rate(rates.deliveries ?? 0) : '–'} />
        <Tile label="Refusals a second" value={rates ? rate(rates.refusals ?? 0) : '–'} bad={(rates?.refusals ?? 0) > 0} />
        {nodes.value && (
          <Tile
            label="Nodes"
            value={count(nodes.value.nodes.length)}
            note={nodes.value.unanswered.length > 0 ? `${nodes.value.unanswered.join(', ')} did not answer` : 'all answered'}
            bad={nodes.value.unanswered.length > 0}
          />
        )}
      </div>
      <Panel title="Nodes" actions={<a href={href(['nodes'])}>All of the nodes</a>}>
        {nodes.value ? (
          <Table
            label="Nodes"
            rows={nodes.value.nodes}
            rowKey={({ name }) => name}
            columns={[
              { name: 'Node', cell: ({ name }) => name },
              { name: 'State', cell: (node) => <NodeState node={node} /> },
              { name: 'Version', cell: ({ version }) => version },
              { name: 'Up', cell: ({ started_at }) => duration(Date.now() - started_at) },
              { name: 'Connections', number: true, cell: ({ connections }) => count(connections) },
              { name: 'Memory', number: true, cell: ({ memory_bytes }) => bytes(memory_bytes) },
            ]}
          />
        ) : (
          <Loaded from={server}>
            {(value) => (
              <p>
                Version {value.version}, up {duration(Date.now() - value.started_at)}, {value.ready ? 'ready' : 'not ready'}.
                {value.undeclared_proxy && ` A proxy at ${value.undeclared_proxy} is not in http.trusted_proxies, so all clients behind it count as one.`}
              </p>
            )}
          </Loaded>
        )}
      </Panel>
    </>
  );
}

export function NodeState({ node }: { node: NodeList['nodes'][number] }) {
  return (
    <>
      <Badge kind={node.state === 'ready' ? 'good' : node.state === 'draining' ? 'warn' : 'bad'}>{node.state.replace('_', ' ')}</Badge>
      {node.reason && <span class="dim"> {node.reason}</span>}
    </>
  );
}

/** Rates of all nodes together. A node that wasn't there before adds nothing yet. */
export function sumOfRates(before: NodeList, now: NodeList): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const node of now.nodes) {
    const old = before.nodes.find(({ name }) => name === node.name);
    if (!old) continue;
    for (const [name, value] of Object.entries(ratesBetween({ at: before.at, totals: totalsOf(old) }, { at: now.at, totals: totalsOf(node) }))) {
      sum[name] = (sum[name] ?? 0) + value;
    }
  }
  return sum;
}

function UsageOfAll({ range }: { range: RangeName }) {
  const usage = useResource(() => take(api.GET('/api/v1/usage', { params: { query: { from: rangeStart(range) } } })), [range], 10_000);
  return <Loaded from={usage}>{(series) => <UsageCharts series={series} />}</Loaded>;
}

function OpenAlerts() {
  const alerts = useResource(() => take(api.GET('/api/v1/alerts')), [], 10_000);
  return (
    <Panel title="Alerts" actions={<a href={href(['alerts'])}>All alerts</a>}>
      <Loaded from={alerts}>
        {({ items }) => {
          const open = items.filter(({ resolved_at }) => resolved_at === null);
          return open.length === 0 ? <p class="dim">Nothing needs an operator.</p> : <AlertRows alerts={open} reload={alerts.reload} />;
        }}
      </Loaded>
    </Panel>
  );
}

function AppList() {
  const list = apps.value;
  return (
    <Panel title="Apps" actions={<a href={href(['apps'])}>All apps</a>}>
      {list.length === 0 ? (
        <Empty title="No app yet">
          {whyNot('admin-of-all') ? 'An owner can give you rights on one.' : <a href={href(['apps'], { create: '1' })}>Create the first one</a>}
        </Empty>
      ) : (
        <Table
          label="Apps"
          rows={list.slice(0, 10)}
          rowKey={({ id }) => id}
          columns={[
            { name: 'Name', cell: (app) => <AppLink app={app} /> },
            { name: 'Id', cell: ({ id }) => <code>{id}</code> },
            { name: 'Open', cell: ({ id }) => <AppShortcuts id={id} /> },
            { name: 'Created', cell: ({ created_at }) => <Time at={created_at} /> },
          ]}
        />
      )}
    </Panel>
  );
}

export function AppLink({ app }: { app: Schemas['App'] }) {
  return (
    <>
      <a href={href(['apps', app.id])}>{app.name}</a> {!app.settings.enabled && <Badge kind="warn">disabled</Badge>}
    </>
  );
}

export function AppShortcuts({ id }: { id: string }) {
  return (
    <span class="shortcuts">
      <a href={href(['apps', id, 'console'])}>console</a> <a href={href(['apps', id, 'sender'])}>sender</a> <a href={href(['apps', id, 'channels'])}>channels</a>
    </span>
  );
}
