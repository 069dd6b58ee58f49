import { api, BASE, take } from '../api/client';
import { bytes, exactly, localTime } from '../format';
import { href, queryText, route, setQuery } from '../router';
import { Button, Facts, Page, Panel, Select } from '../ui/controls';
import { Loaded, useResource } from '../ui/resource';
import { Table } from '../ui/table';
import { RANGES, rangeOf, rangeStart } from './overview';
import { QuotaRows } from './quota-rows';
import { UsageCharts } from './usage-charts';

const STEPS = [
  ['', 'as fits'],
  ['minute', 'minutes'],
  ['hour', 'hours'],
  ['day', 'days'],
] as const;
type Step = (typeof STEPS)[number][0];

export function Usage({ appId }: { appId: string }) {
  const { query } = route.value;
  const range = rangeOf(query);
  const [from, to] = [query.get('from'), query.get('to')];
  const zoomed = from !== null && to !== null;
  const step = STEPS.find(([name]) => name === query.get('step'))?.[0] ?? '';
  const asked = { from: zoomed ? from : rangeStart(range), ...(zoomed ? { to } : {}), ...(step ? { step } : {}) };
  const path = { app_id: appId };
  const usage = useResource(() => take(api.GET('/api/v1/apps/{app_id}/usage', { params: { path, query: asked } })), [appId, range, from, to, step], zoomed ? undefined : 30_000);
  const quotas = useResource(() => take(api.GET('/api/v1/apps/{app_id}/quotas', { params: { path } })), [appId], 30_000);
  const zoom = (first: number, last: number) => setQuery({ from: Math.round(first), to: Math.round(last) });
  return (
    <Page title="Usage and quotas">
      <Panel title="Quotas" actions={<a href={href(['apps', appId, 'settings'])}>Settings</a>}>
        <Loaded from={quotas}>{(list) => <QuotaRows quotas={list} appId={appId} />}</Loaded>
      </Panel>
      <Panel
        title="Usage"
        actions={
          <>
            {zoomed ? (
              <>
                <span>
                  {localTime(Number(from))} to {localTime(Number(to))}
                </span>
                <Button onClick={() => setQuery({ from: '', to: '' })}>Zoom out</Button>
              </>
            ) : (
              <Select label="Range" value={range} options={RANGES} onChange={(value) => setQuery({ range: value === '1h' ? '' : value })} />
            )}
            <Select<Step> label="Step" value={step} options={STEPS} onChange={(value) => setQuery({ step: value })} />
            <a class="button" href={`${BASE}/api/v1/apps/${encodeURIComponent(appId)}/usage?${queryText({ ...asked, format: 'csv' })}`} download={`usage-${appId}.csv`}>
              CSV
            </a>
          </>
        }
      >
        <p class="dim">Draw over a chart to zoom in. Days and hours are those of UTC; a period that is not over is left out.</p>
        <Loaded from={usage}>
          {(series) => (
            <>
              <UsageCharts series={series} all onZoom={zoom} />
              <div class="two">
                <div>
                  <h3>Total</h3>
                  <Facts
                    of={[
                      ['Messages', `${exactly(series.total.messages)}, ${exactly(series.total.backend_events)} from backends and ${exactly(series.total.client_events)} from clients`],
                      ['Deliveries', exactly(series.total.deliveries)],
                      ['Bytes', `${bytes(series.total.bytes_in)} in, ${bytes(series.total.bytes_out)} out`],
                      ['Connections', `at most ${exactly(series.total.connections_peak)}, ${exactly(series.total.connections_opened)} opened`],
                      ['Users', `about ${exactly(series.total.unique_users)} different ones`],
                    ]}
                  />
                </div>
                <Refused refused={series.total.refused} />
              </div>
            </>
          )}
        </Loaded>
      </Panel>
    </Page>
  );
}

function Refused({ refused }: { refused: Record<string, number> }) {
  const rows = Object.entries(refused).sort(([, a], [, b]) => b - a);
  return (
    <div>
      <h3>Refused</h3>
      {rows.length === 0 ? (
        <p class="dim">Nothing was refused.</p>
      ) : (
        <Table
          label="Refused, by kind"
          rows={rows}
          rowKey={([kind]) => kind}
          columns={[
            { name: 'Kind', cell: ([kind]) => <code>{kind}</code> },
            { name: 'Number', number: true, cell: ([, number]) => exactly(number) },
          ]}
        />
      )}
    </div>
  );
}
