import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { bytes, count, duration, pretty, rate } from '../format';
import { href, route, setQuery } from '../router';
import { Button, Code, Copy, Facts, Page, Panel, TextField, Tile, Time } from '../ui/controls';
import { Empty, Loaded, useResource } from '../ui/resource';
import { Listing, usePages } from '../ui/table';
import { useSettled } from '../ui/settled';

export function Channels({ appId }: { appId: string }) {
  const prefix = route.value.query.get('prefix') ?? '';
  const settled = useSettled(prefix);
  const pages = usePages(
    (cursor) =>
      take(
        api.GET('/api/v1/apps/{app_id}/channels', {
          params: { path: { app_id: appId }, query: { ...(settled ? { prefix: settled } : {}), ...(cursor ? { cursor } : {}) } },
        }),
      ),
    [appId, settled],
  );
  return (
    <Page title="Channels" lead="Channels with at least one subscriber, over all nodes." actions={<Button onClick={pages.reload}>Look again</Button>}>
      <div class="row" role="search">
        <TextField label="Begins with" value={prefix} onInput={(value) => setQuery({ prefix: value })} input={{ placeholder: 'presence-' }} />
      </div>
      <Panel title="Occupied">
        <Listing
          pages={pages}
          label="Channels"
          rowKey={({ name }) => name}
          empty={
            <Empty title={prefix ? `No occupied channel begins with “${prefix}”` : 'No channel is occupied'}>
              A channel exists while a client is subscribed to it.{' '}
              {prefix && <a href={href(['apps', appId, 'channels', prefix])}>Look at the channel “{prefix}” anyway</a>}
            </Empty>
          }
          columns={[
            {
              name: 'Channel',
              cell: ({ name }) => <a href={href(['apps', appId, 'channels', name])}>{name}</a>,
            },
            { name: 'Subscriptions', number: true, cell: ({ subscription_count }) => count(subscription_count) },
            { name: 'Users', number: true, cell: ({ user_count }) => (user_count === null ? '–' : count(user_count)) },
          ]}
        />
      </Panel>
    </Page>
  );
}

export function ChannelPage({ appId, channel }: { appId: string; channel: string }) {
  const app = ['apps', appId];
  const found = useResource(() => take(api.GET('/api/v1/apps/{app_id}/channels/{channel}', { params: { path: { app_id: appId, channel } } })), [appId, channel], 3_000);
  const isPresence = channel.startsWith('presence-');
  return (
    <Page
      title={channel}
      actions={
        <>
          <Copy text={channel} what="the channel’s name" />
          <a class="button" href={href([...app, 'console'], { channel })}>
            Live console
          </a>
          <a class="button" href={href([...app, 'sender'], { channel })}>
            Send to it
          </a>
          <a class="button" href={href([...app, 'explain'], { channel })}>
            Why not delivered?
          </a>
        </>
      }
    >
      <Loaded from={found}>
        {({ subscription_count, user_count, events_per_minute, cache, history }) => (
          <>
            <div class="tiles">
              <Tile label="Subscriptions" value={count(subscription_count)} />
              {user_count !== null && <Tile label="Users" value={count(user_count)} />}
              {events_per_minute !== null && <Tile label="Events a minute" value={rate(events_per_minute)} />}
            </div>
            {(cache || history) && (
              <Panel title="What is kept">
                <Facts
                  of={[
                    ['Cache', cache && <span>{cache.event}, {bytes(cache.data_bytes)}, until <Time at={cache.expires_at} /></span>],
                    ['History', history && `${count(history.rule.size)} events, ${duration(history.rule.ttl * 1000)}, by the rule ${history.rule.channels}`],
                    ['Positions', history && `${history.oldest ?? 'none'} to ${history.newest}`],
                    ['Newest', history?.newest_at ? <Time at={history.newest_at} relative /> : null],
                  ]}
                />
                {typeof cache?.data === 'string' && <Code text={pretty(cache.data)} what="the cached data" />}
              </Panel>
            )}
          </>
        )}
      </Loaded>
      <div class="two">
        {isPresence && <Members appId={appId} channel={channel} />}
        <Subscribers appId={appId} channel={channel} />
      </div>
      <History appId={appId} channel={channel} />
    </Page>
  );
}

function Members({ appId, channel }: { appId: string; channel: string }) {
  const pages = usePages(
    (cursor) => take(api.GET('/api/v1/apps/{app_id}/channels/{channel}/members', { params: { path: { app_id: appId, channel }, query: cursor ? { cursor } : {} } })),
    [appId, channel],
  );
  return (
    <Panel title="Members" actions={<Button onClick={pages.reload}>Look again</Button>}>
      <Listing
        pages={pages}
        label="Members"
        rowKey={({ user_id }) => user_id}
        empty="Nobody is here."
        columns={[{ name: 'User', cell: ({ user_id }) => <a href={href(['apps', appId, 'connections'], { user_id })}>{user_id}</a> }]}
      />
    </Panel>
  );
}

function Subscribers({ appId, channel }: { appId: string; channel: string }) {
  const pages = usePages(
    (cursor) => take(api.GET('/api/v1/apps/{app_id}/channels/{channel}/subscribers', { params: { path: { app_id: appId, channel }, query: cursor ? { cursor } : {} } })),
    [appId, channel],
  );
  return (
    <Panel title="Subscribers" actions={<Button onClick={pages.reload}>Look again</Button>}>
      <Listing
        pages={pages}
        label="Subscribers"
        rowKey={({ socket_id }) => socket_id}
        empty="No connection is subscribed."
        columns={[
          { name: 'Connection', cell: ({ socket_id }) => <a href={href(['apps', appId, 'connections', socket_id])}>{socket_id}</a> },
          { name: 'User', cell: ({ user_id }) => user_id ?? '–' },
          { name: 'Node', cell: ({ node }) => node },
        ]}
      />
    </Panel>
  );
}

/** The history, newest first. */
function History({ appId, channel }: { appId: string; channel: string }) {
  // The positions at which the pages that were turned to begin.
  const [turned, setTurned] = useState<string[]>([]);
  const before = turned.at(-1);
  const page = useResource(
    () => take(api.GET('/api/v1/apps/{app_id}/channels/{channel}/history', { params: { path: { app_id: appId, channel }, query: before ? { before } : {} } })),
    [appId, channel, before],
  );
  const last = page.value?.items.at(-1)?.position;
  return (
    <Panel title="History" actions={<Button onClick={page.reload}>Look again</Button>}>
      {page.error && !page.value && (page.error.status === 404 || page.error.status === 409) ? (
        <p class="dim">
          {page.error.message} <a href={href(['apps', appId, 'settings'])}>Settings</a> has the rules of histories.
        </p>
      ) : (
        <Loaded from={page}>
          {({ items, more, data_hidden_because }) => (
            <>
              {data_hidden_because && <p class="dim">Data is not shown: {data_hidden_because}</p>}
              {items.length === 0 ? <p class="dim">{before ? 'Nothing older is kept.' : 'No event is kept.'}</p> : items.map((event) => <HistoryRow key={event.position} event={event} />)}
              <div class="actions">
                {turned.length > 0 && <Button onClick={() => setTurned(turned.slice(0, -1))}>Newer</Button>}
                {more && last && <Button onClick={() => setTurned([...turned, last])}>Older</Button>}
              </div>
            </>
          )}
        </Loaded>
      )}
    </Panel>
  );
}

function HistoryRow({ event }: { event: Schemas['HistoryItem'] }) {
  return (
    <details>
      <summary>
        <Time at={event.time_ms} /> <strong>{event.event}</strong> <span class="dim">{event.position}</span> {event.user_id && `by ${event.user_id} `}
        {event.except && `without ${event.except} `}
        <span class="dim">{bytes(event.data_bytes)}</span>
      </summary>
      {event.data !== null && <Code text={pretty(event.data)} what={`the data of ${event.event}`} />}
    </details>
  );
}
