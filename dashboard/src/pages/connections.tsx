import { api, type Schemas, take } from '../api/client';
import { bytes, count, duration, plural } from '../format';
import { href, route, setQuery } from '../router';
import { whyNot } from '../session';
import { Button, Copy, Facts, Page, Panel, TextField, Tile, Time } from '../ui/controls';
import { ask } from '../ui/dialog';
import { Empty, Loaded, useResource } from '../ui/resource';
import { Filters } from '../ui/filters';
import { useSettled } from '../ui/settled';
import { Listing, Table, usePages } from '../ui/table';
import { toast } from '../ui/toast';

const FILTERS = [
  ['q', 'Socket id', '123.456, or a part'],
  ['user_id', 'User', ''],
  ['address', 'Address', '192.0.2.0/24'],
  ['key', 'Key', ''],
  ['channel', 'Channel', 'news'],
  ['node', 'Node', ''],
] as const;

export function Connections({ appId }: { appId: string }) {
  const { query } = route.value;
  const filters = Object.fromEntries(FILTERS.map(([name]) => [name, query.get(name) ?? '']));
  const key = useSettled(JSON.stringify(filters));
  const pages = usePages((cursor) => {
    const given = Object.entries(JSON.parse(key) as Record<string, string>).filter(([, value]) => value !== '');
    return take(api.GET('/api/v1/apps/{app_id}/connections', { params: { path: { app_id: appId }, query: { ...Object.fromEntries(given), ...(cursor ? { cursor } : {}) } } }));
  }, [appId, key]);
  const any = Object.values(filters).some(Boolean);
  return (
    <Page title="Connections" lead="Open connections on all nodes." actions={<Button onClick={pages.reload}>Look again</Button>}>
      <Filters set={Object.values(filters).filter(Boolean).length}>
        {FILTERS.map(([name, label, placeholder]) => (
          <TextField key={name} label={label} value={filters[name] ?? ''} onInput={(value) => setQuery({ [name]: value })} input={{ placeholder }} />
        ))}
      </Filters>
      <Panel title="Open">
        <Listing
          pages={pages}
          label="Connections"
          rowKey={({ socket_id }) => socket_id}
          empty={<Empty title={any ? 'No open connection matches' : 'No client is connected'}>{any && 'Filters compare whole values, but for parts of socket ids and networks of addresses.'}</Empty>}
          columns={[
            { name: 'Connection', cell: ({ socket_id }) => <a href={href(['apps', appId, 'connections', socket_id])}>{socket_id}</a> },
            { name: 'User', cell: ({ user_id }) => user_id ?? '–' },
            { name: 'Since', cell: ({ connected_at }) => <Time at={connected_at} relative /> },
            { name: 'Client', cell: clientName },
            { name: 'Address', cell: ({ address }) => address ?? '–' },
            { name: 'Node', cell: ({ node }) => node },
            { name: 'Channels', number: true, cell: ({ channel_count }) => count(channel_count) },
            { name: 'Waiting', number: true, cell: ({ waiting_bytes }) => bytes(waiting_bytes) },
          ]}
        />
      </Panel>
    </Page>
  );
}

const TRANSPORTS: Record<Schemas['Transport'], string> = {
  websocket: 'WebSocket',
  http: 'HTTP',
  plain_websocket: 'plain WebSocket',
  sse: 'SSE',
  socket_io: 'Socket.IO',
};

function clientName({ client, client_version, transport }: Schemas['Connection']) {
  return `${client} ${client_version} ${TRANSPORTS[transport]}`.trim();
}

export function ConnectionPage({ appId, socketId }: { appId: string; socketId: string }) {
  const app = ['apps', appId];
  const found = useResource(() => take(api.GET('/api/v1/apps/{app_id}/connections/{socket_id}', { params: { path: { app_id: appId, socket_id: socketId } } })), [appId, socketId], 2_000);
  const disconnect = () =>
    ask({
      title: `Disconnect ${socketId}?`,
      body: <p>The client is closed with 4009 and stays away until it is started again{found.value?.user_id ? `; it is a connection of ${found.value.user_id}` : ''}.</p>,
      action: 'Disconnect',
      run: async () => {
        await take(api.DELETE('/api/v1/apps/{app_id}/connections/{socket_id}', { params: { path: { app_id: appId, socket_id: socketId } } }));
        toast(`Disconnected ${socketId}.`);
        await found.reload();
      },
    });
  // Whoever looks at a connection sees what it was when it closed.
  const isClosed = found.value !== undefined && found.error?.status === 404;
  return (
    <Page
      title={`Connection ${socketId}`}
      actions={
        <>
          <Copy text={socketId} what="the socket id" />
          <a class="button" href={href([...app, 'console'], { socket_id: socketId })}>
            Live console
          </a>
          <Button kind="danger" reason={whyNot('app-admin') ?? (isClosed ? 'It is closed.' : undefined)} onClick={disconnect}>
            Disconnect
          </Button>
        </>
      }
    >
      {isClosed && (
        <p class="note warn" role="status">
          This connection is closed. What you see is from before. <a href={href([...app, 'connections'])}>Open connections</a>
        </p>
      )}
      <Loaded from={isClosed ? { ...found, error: undefined } : found}>
        {(it) => (
          <>
            <div class="tiles">
              <Tile label="Open for" value={duration(Date.now() - it.connected_at)} />
              <Tile label="Round trip" value={it.round_trip_ms === null ? '–' : `${it.round_trip_ms} ms`} note="of the last ping" />
              <Tile label="Waiting" value={bytes(it.waiting_bytes)} note={`at most ${bytes(it.waiting_bytes_peak)}`} bad={it.is_fenced} />
              <Tile label="In" value={bytes(it.bytes_in)} note={plural(it.messages_in, 'message')} />
              <Tile label="Out" value={bytes(it.bytes_out)} note={plural(it.messages_out, 'message')} />
            </div>
            {it.is_fenced && <p class="note warn">It may have missed events, so nothing more is written to it, and it is about to be closed with 4101. The client recovers.</p>}
            <Panel title="Client">
              <Facts
                of={[
                  ['User', it.user_id && <a href={href([...app, 'connections'], { user_id: it.user_id })}>{it.user_id}</a>],
                  ['Client', clientName(it)],
                  ['Address', it.address],
                  ['Key', it.key],
                  ['Node', it.node],
                  ['Connected', <Time at={it.connected_at} />],
                  ['Last heard', <Time at={it.heard_at} relative />],
                ]}
              />
            </Panel>
            <Panel title="Channels">
              {it.subscriptions.length === 0 ? (
                <p class="dim">It is subscribed to none.</p>
              ) : (
                <Table
                  label="Channels"
                  rows={it.subscriptions}
                  rowKey={({ channel }) => channel}
                  columns={[
                    { name: 'Channel', cell: ({ channel }) => <a href={href([...app, 'channels', channel])}>{channel}</a> },
                    { name: 'Subscribed', cell: ({ subscribed_at }) => (subscribed_at === null ? '–' : <Time at={subscribed_at} />) },
                    { name: 'User', cell: ({ user_id }) => user_id ?? '–' },
                    { name: 'Position', cell: ({ position }) => position ?? '–' },
                    { name: 'Recovers', cell: ({ recovers }) => (recovers ? 'yes' : 'no') },
                    {
                      name: 'Delivery',
                      cell: ({ channel }) => (
                        <a href={href([...app, 'explain'], { channel, socket_id: socketId })} aria-label={`Why not delivered? On ${channel}`}>
                          Why not delivered?
                        </a>
                      ),
                    },
                  ]}
                />
              )}
            </Panel>
            <Panel title="What happened lately">
              <Table
                label="What happened lately"
                rows={it.recent.map((entry, number) => ({ ...entry, number })).reverse()}
                rowKey={({ number }) => number}
                columns={[
                  { name: 'When', cell: ({ at }) => <Time at={at} /> },
                  { name: 'What', cell: ({ kind, what }) => (kind === 'refused' || kind === 'not_recovered' ? <span class="warn">{what}</span> : what) },
                ]}
              />
            </Panel>
          </>
        )}
      </Loaded>
    </Page>
  );
}
