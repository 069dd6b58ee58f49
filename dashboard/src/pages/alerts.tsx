import { api, type Schemas, take } from '../api/client';
import { href } from '../router';
import { whyNot } from '../session';
import { Badge, Button, Time } from '../ui/controls';
import { Table } from '../ui/table';
import { toast } from '../ui/toast';

const SILENCES = [
  ['1 h', 3_600],
  ['1 day', 86_400],
] as const;

export function AlertRows({ alerts, reload }: { alerts: readonly Schemas['Alert'][]; reload: () => Promise<void> }) {
  const silence = async (id: string, seconds: number) => {
    await take(api.PUT('/api/v1/alerts/{alert_id}/silence', { params: { path: { alert_id: id } }, body: { seconds } }));
    await reload();
  };
  const silenceWithUndo = async (id: string, seconds: number) => {
    await silence(id, seconds);
    toast('Nobody is notified of this alert meanwhile.', { undo: () => silence(id, 0) });
  };
  const now = Date.now();
  const reason = whyNot('admin-of-all');
  return (
    <Table
      label="Alerts"
      rows={alerts}
      rowKey={({ id }) => id}
      columns={[
        { name: 'State', cell: ({ resolved_at }) => <Badge kind={resolved_at === null ? 'bad' : 'good'}>{resolved_at === null ? 'open' : 'over'}</Badge> },
        {
          name: 'What',
          cell: ({ summary, advice, app_id }) => (
            <>
              <div>{summary}</div>
              <div class="dim">{advice}</div>
              {app_id && <a href={href(['apps', app_id])}>app {app_id}</a>}
            </>
          ),
        },
        { name: 'Kind', cell: ({ kind }) => <code>{kind}</code> },
        { name: 'Since', cell: ({ opened_at }) => <Time at={opened_at} relative /> },
        { name: 'Over', cell: ({ resolved_at }) => (resolved_at === null ? '–' : <Time at={resolved_at} relative />) },
        {
          name: 'Silence',
          cell: ({ id, silenced_until }) =>
            silenced_until !== null && silenced_until > now ? (
              <>
                silent until <Time at={silenced_until} />{' '}
                <Button kind="quiet" reason={reason} onClick={() => silence(id, 0)}>
                  End
                </Button>
              </>
            ) : (
              SILENCES.map(([name, seconds]) => (
                <Button key={name} kind="quiet" reason={reason} onClick={() => silenceWithUndo(id, seconds)}>
                  {name}
                </Button>
              ))
            ),
        },
      ]}
    />
  );
}
