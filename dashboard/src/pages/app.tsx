import { useState } from 'preact/hooks';
import { api, BASE, take } from '../api/client';
import { apps } from '../apps';
import { clientSnippet, SNIPPET_NAMES, type SnippetName } from '../client-snippets';
import { count } from '../format';
import { href, route, setQuery } from '../router';
import { Badge, Button, Code, Copy, Facts, Page, Panel, Select, Tile, Time } from '../ui/controls';
import { Loaded, useResource } from '../ui/resource';
import { Table } from '../ui/table';
import { RANGES, rangeOf, rangeStart } from './overview';
import { QuotaRows } from './quota-rows';
import { UsageCharts } from './usage-charts';

export function AppOverview({ appId }: { appId: string }) {
  const path = { app_id: appId };
  const range = rangeOf(route.value.query);
  const app = useResource(() => take(api.GET('/api/v1/apps/{app_id}', { params: { path } })), [appId]);
  const usage = useResource(() => take(api.GET('/api/v1/apps/{app_id}/usage', { params: { path, query: { from: rangeStart(range) } } })), [appId, range], 10_000);
  const quotas = useResource(() => take(api.GET('/api/v1/apps/{app_id}/quotas', { params: { path } })), [appId], 30_000);
  const keys = useResource(() => take(api.GET('/api/v1/apps/{app_id}/keys', { params: { path } })), [appId]);
  const clients = useResource(() => take(api.GET('/api/v1/apps/{app_id}/clients', { params: { path } })), [appId], 5_000);
  const title = app.value?.name ?? apps.value.find(({ id }) => id === appId)?.name ?? appId;
  const open = clients.value?.clients.reduce((sum, { connections }) => sum + connections, 0);
  const active = keys.value?.items.find(({ state }) => state === 'active');
  return (
    <Page title={title}>
      <Loaded from={app}>
        {({ id, settings, created_at }) => (
          <>
            <div class="tiles">
              <Tile label="Connections" value={open === undefined ? '–' : count(open)} />
              <Tile label="Messages" value={usage.value ? count(usage.value.total.messages) : '–'} note={rangeTitle(range)} />
              <Tile label="Deliveries" value={usage.value ? count(usage.value.total.deliveries) : '–'} note={rangeTitle(range)} />
              <Tile
                label="Refused"
                value={usage.value ? count(Object.values(usage.value.total.refused).reduce((sum, value) => sum + value, 0)) : '–'}
                note={rangeTitle(range)}
              />
            </div>
            <div class="two">
              <Panel title="Credentials" actions={<a href={href(['apps', id, 'keys'])}>Keys</a>}>
                <Facts
                  of={[
                    ['App id', <span><code>{id}</code> <Copy text={id} what="the app id" /></span>],
                    ['Key', active ? <span><code>{active.key}</code> <Copy text={active.key} what="the key" /></span> : 'no active key'],
                    ['State', settings.enabled ? <Badge kind="good">enabled</Badge> : <Badge kind="warn">disabled</Badge>],
                    ['Created', <Time at={created_at} />],
                  ]}
                />
                {active && <Snippets appKey={active.key} />}
              </Panel>
              <Panel title="Quotas" actions={<a href={href(['apps', id, 'usage'])}>Usage and quotas</a>}>
                <Loaded from={quotas}>{(list) => <QuotaRows quotas={list} appId={id} />}</Loaded>
              </Panel>
            </div>
          </>
        )}
      </Loaded>
      <Panel title="Over time" actions={<Select label="Range" value={range} options={RANGES} onChange={(value) => setQuery({ range: value === '1h' ? '' : value })} />}>
        <Loaded from={usage}>{(series) => <UsageCharts series={series} />}</Loaded>
      </Panel>
      <Panel title="Clients" actions={<a href={href(['apps', appId, 'connections'])}>Connections</a>}>
        <Loaded from={clients}>
          {({ clients: list }) =>
            list.length === 0 ? (
              <p class="dim">No client is connected.</p>
            ) : (
              <Table
                label="Clients by library"
                rows={list}
                rowKey={({ client, version }) => `${client} ${version}`}
                columns={[
                  { name: 'Library', cell: ({ client }) => client },
                  { name: 'Version', cell: ({ version }) => version },
                  { name: 'Connections', number: true, cell: ({ connections }) => count(connections) },
                  { name: 'Risk', cell: ({ risk }) => risk && <span class="warn">{risk}</span> },
                ]}
              />
            )
          }
        </Loaded>
      </Panel>
    </Page>
  );
}

function rangeTitle(range: string): string {
  return RANGES.find(([name]) => name === range)?.[1] ?? range;
}

function Snippets({ appKey }: { appKey: string }) {
  const [name, setName] = useState<SnippetName>(SNIPPET_NAMES[0]);
  return (
    <>
      <div class="tabs" role="group" aria-label="Client library">
        {SNIPPET_NAMES.map((it) => (
          <Button key={it} pressed={it === name} onClick={() => setName(it)}>
            {it}
          </Button>
        ))}
      </div>
      <Code text={clientSnippet(name, appKey, BASE)} what="a client that receives events" />
    </>
  );
}
