import { api, take } from '../api/client';
import { type Connection, loadConnection, loadConnections } from '../api/inspect';
import { bytes, count, duration } from '../format';
import { go, href, route, setQuery } from '../router';
import { whyNot } from '../session';
import { Badge, Button, Copy, Facts, Page, Panel, TextField, Tile, Time } from '../ui/controls';
import { ask } from '../ui/dialog';
import { Empty, Loaded, useResource } from '../ui/resource';
import { useSettled } from '../ui/settled';
import { Listing, Table, usePages } from '../ui/table';
import { toast } from '../ui/toast';

const FILTERS = [
  ['user_id', 'User', ''],
  ['address', 'Address', '192.0.2.7'],
  ['key', 'Key', ''],
  ['channel', 'Channel', 'news'],
  ['node', 'Node', ''],
] as const;

export function Connections({ appId }: { appId: string }) {
  const { query } = route.value;
  const filters = Object.fromEntries(FILTERS.map(([name]) => [name, query.get(name) ?? '']));
  const key = useSettled(JSON.stringify(filters));
  const pages = usePages((cursor) => loadConnections(appId, { ...(JSON.parse(key) as Record<string, string>), cursor }), [appId, key]);
  const any = Object.values(filters).some(Boolean);
  return (
    <Page title="Connections" lead="Open connections on all nodes." actions={<Button onClick={pages.reload}>Look again</Button>}>
      <div class="row" role="search">
        {FILTERS.map(([name, label, placeholder]) => (
          <TextField key={name} label={label} value={filters[name] ?? ''} onInput={(value) => setQuery({ [name]: value })} input={{ placeholder }} />
        ))}
        <form
          class="field"
          onSubmit={(event) => {
            event.preventDefault();
            const id = new FormData(event.currentTarget).get('socket');
            if (typeof id === 'string' && id.trim()) go(href(['apps', appId, 'connections', id.trim()]));
          }}
        >
          <label for="socket">Socket id</label>
          <input id="socket" name="socket" type="text" autocomplete="off" placeholder="123.456, Enter" />
        </form>
      </div>
      <Panel title="Open">
        <Listing
          pages={pages}
          label="Connections"
          rowKey={({ socket_id }) => socket_id}
          empty={<Empty title={any ? 'No open connection matches' : 'No client is connected'}>{any && 'The filters compare whole values.'}</Empty>}
          columns={[
            { name: 'Connection', cell: ({ socket_id }) => <a href={href(['apps', appId, 'connections', socket_id])}>{socket_id}</a> },
            { name: 'User', cell: ({ user_id }) => user_id ?? '–' },
            { name: 'Since', cell: ({ connected_at }) => <Time at={connected_at} relative /> },
            { name: 'Client', cell: clientName },
            { name: 'Address', cell: ({ address }) => address ?? '–' },
            { name: 'Node', cell: ({ node }) => node ?? '–' },
            { name: 'Channels', number: true, cell: ({ channels }) => count(channels.length) },
            { name: 'Waiting', number: true, cell: ({ waiting_bytes }) => bytes(waiting_bytes) },
          ]}
        />
      </Panel>
    </Page>
  );
}

function clientName({ client, client_version, transport }: Connection) {
  return `${client ?? ''} ${client_version ?? ''} ${transport === 'http' ? 'HTTP' : 'WebSocket'}`.trim();
}

export function ConnectionPage({ appId, socketId }: { appId: string; socketId: string }) {
  const app = ['apps', appId];
  const found = useResource(() => loadConnection(appId, socketId), [appId, socketId], 3_000);
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
  return (
    <Page
      title={`Connection ${socketId}`}
      actions={
        <>
          <Copy text={socketId} what="the socket id" />
          <a class="button" href={href([...app, 'console'], { socket_id: socketId })}>
            Live console
          </a>
          <Button kind="danger" reason={whyNot('app-admin')} onClick={disconnect}>
            Disconnect
          </Button>
        </>
      }
    >
      <Loaded from={found}>
        {(it) => (
          <>
            <div class="tiles">
              <Tile label="Open for" value={duration(Date.now() - it.connected_at)} />
              {it.round_trip_ms !== undefined && <Tile label="Round trip" value={it.round_trip_ms === null ? '–' : `${it.round_trip_ms} ms`} note="of the last ping" />}
              <Tile label="Waiting" value={bytes(it.waiting_bytes)} note={it.waiting_bytes_peak !== undefined ? `at most ${bytes(it.waiting_bytes_peak)}` : undefined} />
              {it.bytes_in !== undefined && <Tile label="In" value={bytes(it.bytes_in)} note={`${count(it.messages_in ?? 0)} messages`} />}
              {it.bytes_out !== undefined && <Tile label="Out" value={bytes(it.bytes_out)} note={`${count(it.messages_out ?? 0)} messages`} />}
            </div>
            <div class="two">
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
              {it.recent && (
                <Panel title="Lately">
                  <ul>
                    {it.recent.map(({ at, what }) => (
                      <li key={`${at} ${what}`}>
                        <Time at={at} /> {what}
                      </li>
                    ))}
                  </ul>
                </Panel>
              )}
            </div>
            <Panel title="Channels">
              {it.channels.length === 0 ? (
                <p class="dim">It is subscribed to none.</p>
              ) : (
                <Table
                  label="Channels"
                  rows={it.channels.map((channel) => (typeof channel === 'string' ? { name: channel } : channel))}
                  rowKey={({ name }) => name}
                  columns={[
                    { name: 'Channel', cell: ({ name }) => <a href={href([...app, 'channels', name])}>{name}</a> },
                    { name: 'Position', cell: (channel) => ('position' in channel && channel.position) || <Badge>none</Badge> },
                    {
                      name: 'Delivery',
                      cell: ({ name }) => <a href={href([...app, 'explain'], { channel: name, socket_id: socketId })}>Why not delivered?</a>,
                    },
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
