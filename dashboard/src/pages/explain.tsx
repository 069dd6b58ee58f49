import { useEffect, useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { href, route, setQuery } from '../router';
import { Badge, Button, Page, Panel, Select, TextField, Time } from '../ui/controls';
import { Failed, Loading } from '../ui/resource';
import { Table } from '../ui/table';

const KINDS: Record<Schemas['Verdict'], 'good' | 'warn' | 'bad' | 'plain'> = {
  delivered: 'good',
  not_subscribed: 'bad',
  subscribed_later: 'warn',
  excluded: 'warn',
  fenced: 'warn',
  disconnected: 'bad',
  no_such_event: 'bad',
  unknown: 'plain',
};

const SINCE = [
  ['600', '10 minutes'],
  ['3600', 'an hour'],
  ['86400', 'a day'],
] as const;

export function Explain({ appId }: { appId: string }) {
  const { query } = route.value;
  const value = (name: string) => query.get(name) ?? '';
  const set = (name: string) => (text: string) => setQuery({ [name]: text });
  const [state, setState] = useState<{ answer?: Schemas['Explanation']; error?: Error; busy?: boolean }>({});
  const since = SINCE.find(([seconds]) => seconds === value('since'))?.[0] ?? '3600';
  const missing = !value('channel') ? 'Name the channel first.' : !value('channel').startsWith('#server-to-user-') && !value('user_id') && !value('socket_id') ? 'Name the user or the socket id first.' : undefined;
  const run = async () => {
    setState({ busy: true });
    try {
      const query = {
        channel: value('channel'),
        since: String(Date.now() - Number(since) * 1000),
        ...(value('event') ? { event: value('event') } : {}),
        ...(value('user_id') ? { user_id: value('user_id') } : value('socket_id') ? { socket_id: value('socket_id') } : {}),
      };
      const answer = await take(api.GET('/api/v1/apps/{app_id}/explain', { params: { path: { app_id: appId }, query } }));
      setState({ answer });
    } catch (error) {
      setState({ error: error as Error });
    }
  };
  // Whoever opens a link with the question wants the answer.
  useEffect(() => {
    if (!missing) void run();
  }, []);
  const { answer, error, busy } = state;
  return (
    <Page title="Why did my client not get this event?" lead="Answered from the history, the times of subscriptions, what waits for the client, and closed connections.">
      <Panel title="Question">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            if (!missing && !busy) void run();
          }}
        >
          <div class="row">
            <TextField label="Channel" value={value('channel')} onInput={set('channel')} input={{ required: true, placeholder: 'private-orders' }} />
            <TextField label="Event (any)" value={value('event')} onInput={set('event')} input={{ placeholder: 'order-paid' }} />
            <TextField label="User" value={value('user_id')} onInput={set('user_id')} />
            <TextField label="or socket id" value={value('socket_id')} onInput={set('socket_id')} input={{ placeholder: '123.456' }} />
            <Select label="In the last" value={since} options={SINCE} onChange={(seconds) => setQuery({ since: seconds === '3600' ? '' : seconds })} />
            <Button type="submit" kind="main" reason={missing ?? (busy ? 'Wait for the answer.' : undefined)}>
              Explain
            </Button>
          </div>
        </form>
      </Panel>
      {busy && <Loading />}
      {error && <Failed error={error} retry={run} />}
      {answer && (
        <Panel title="Answer">
          <div role="status">
            <p>
              <Badge kind={KINDS[answer.verdict]}>{answer.verdict.replaceAll('_', ' ')}</Badge> {answer.answer}
            </p>
          </div>
          {answer.evidence.length > 0 && (
            <Table
              label="Evidence"
              rows={answer.evidence.map((item, at) => ({ ...item, number: at }))}
              rowKey={({ number }) => number}
              columns={[
                { name: 'When', cell: ({ at }) => (at === null ? '–' : <Time at={at} />) },
                { name: 'What', cell: ({ what }) => what },
              ]}
            />
          )}
          <p>
            <a href={href(['apps', appId, 'console'], { channel: value('channel') })}>Watch the channel live</a>
          </p>
        </Panel>
      )}
    </Page>
  );
}
