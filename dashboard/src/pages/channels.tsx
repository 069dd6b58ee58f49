import { useState } from 'preact/hooks';
import { api, take } from '../api/client';
import { type HistoryEvent, loadChannel, loadHistory, loadSubscribers } from '../api/inspect';
import { bytes, count, duration, pretty, rate } from '../format';
import { href, route, setQuery } from '../router';
import { whyNot } from '../session';
import { Button, Code, Copy, Facts, Page, Panel, TextField, Tile, Time } from '../ui/controls';
import { Empty, Failed, Loaded, useResource } from '../ui/resource';
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
  const found = useResource(() => loadChannel(appId, channel), [appId, channel], 3_000);
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
              {events_per_minute !== undefined && events_per_minute !== null && <Tile label="Events a minute" value={rate(events_per_minute)} />}
            </div>
            {(cache || history) && (
              <Panel title="What is kept">
                <Facts
                  of={[
                    ['Cache', cache ? `${cache.event}, ${duration(cache.age_ms ?? (cache.age ?? 0) * 1000)} old` : null],
                    ['History', history?.rule ? `${count(history.rule.size)} events, ${duration(history.rule.ttl * 1000)}, by the rule ${history.rule.channels}` : null],
                    ['Positions', history?.oldest ? `${history.oldest} to ${history.newest}` : null],
                  ]}
                />
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
  const pages = usePages((cursor) => loadSubscribers(appId, channel, cursor), [appId, channel]);
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
          { name: 'Node', cell: ({ node }) => node ?? '–' },
        ]}
      />
    </Panel>
  );
}

const PAGE = 50;

function History({ appId, channel }: { appId: string; channel: string }) {
  const [earlier, setEarlier] = useState<string[]>([]);
  const after = earlier.at(-1);
  const page = useResource(() => loadHistory(appId, channel, { limit: PAGE, after }), [appId, channel, after]);
  const hidden = whyNot('app-admin');
  if (page.error?.status === 404 || page.error?.status === 409) {
    return (
      <Panel title="History">
        <p class="dim">
          {page.error.message} <a href={href(['apps', appId, 'settings'])}>Settings</a> has the rules.
        </p>
      </Panel>
    );
  }
  const events = page.value?.events ?? page.value?.items ?? [];
  const last = events.at(-1)?.position;
  return (
    <Panel title="History" actions={<Button onClick={page.reload}>Look again</Button>}>
      {page.error && !page.value ? (
        <Failed error={page.error} retry={page.reload} />
      ) : (
        <>
          {hidden && <p class="dim">Data is not shown: {hidden}</p>}
          {events.length === 0 ? <p class="dim">{after ? 'No later event.' : 'No event is kept.'}</p> : events.map((event) => <HistoryRow key={event.position} event={event} />)}
          <div class="actions">
            {earlier.length > 0 && <Button onClick={() => setEarlier(earlier.slice(0, -1))}>Earlier</Button>}
            {last && (page.value?.more ?? events.length === PAGE) && <Button onClick={() => setEarlier([...earlier, last])}>Later</Button>}
          </div>
        </>
      )}
    </Panel>
  );
}

function HistoryRow({ event }: { event: HistoryEvent }) {
  const at = event.time_ms ?? event.time;
  return (
    <details>
      <summary>
        <Time at={at} /> <strong>{event.name}</strong> <span class="dim">{event.position}</span>
        {event.user_id && ` by ${event.user_id}`} {event.data_bytes !== undefined && <span class="dim">{bytes(event.data_bytes)}</span>}
      </summary>
      {typeof event.data === 'string' && <Code text={pretty(event.data)} what={`the data of ${event.name}`} />}
    </details>
  );
}
