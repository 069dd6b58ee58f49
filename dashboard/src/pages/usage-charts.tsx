import type { Schemas } from '../api/client';
import { bytes } from '../format';
import { Chart } from '../ui/chart';

const STEP_SECONDS: Record<Schemas['UsageStep'], number> = { minute: 60, hour: 3_600, day: 86_400 };

/** Charts of what usage has: connections, messages and deliveries a second, and the rest on demand. */
export function UsageCharts({ series, all, onZoom }: { series: Schemas['UsageSeries']; all?: boolean; onZoom?: (from: number, to: number) => void }) {
  // The current period still grows, so its rate would look like a fall.
  const points = series.points.filter(({ complete }) => complete || series.points.length < 3);
  const times = points.map(({ at }) => at);
  const seconds = STEP_SECONDS[series.step];
  const of = (name: 'messages' | 'deliveries' | 'bytes_in' | 'bytes_out' | 'backend_events' | 'client_events') => points.map((point) => point[name] / seconds);
  const refused = points.map((point) => Object.values(point.refused).reduce((sum, value) => sum + value, 0));
  return (
    <div class="charts">
      <Chart
        title="Connections"
        times={times}
        lines={[
          { name: 'peak', values: points.map((point) => point.connections_peak) },
          { name: 'average', values: points.map((point) => point.connections_average) },
        ]}
        onZoom={onZoom}
      />
      <Chart
        title="Messages a second"
        times={times}
        lines={all ? [{ name: 'from backends', values: of('backend_events') }, { name: 'from clients', values: of('client_events') }] : [{ name: 'messages', values: of('messages') }]}
        onZoom={onZoom}
      />
      <Chart title="Deliveries a second" times={times} lines={[{ name: 'deliveries', values: of('deliveries') }]} onZoom={onZoom} />
      <Chart title={`Refused, each ${series.step}`} times={times} lines={[{ name: 'refused', values: refused }]} onZoom={onZoom} />
      {all && (
        <>
          <Chart
            title="Bytes a second"
            times={times}
            lines={[
              { name: 'in', values: of('bytes_in'), format: bytes },
              { name: 'out', values: of('bytes_out'), format: bytes },
            ]}
            onZoom={onZoom}
          />
          <Chart title={`Users, each ${series.step}`} times={times} lines={[{ name: 'different users', values: points.map((point) => point.unique_users) }]} onZoom={onZoom} />
        </>
      )}
    </div>
  );
}
