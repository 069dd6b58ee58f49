import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { me, whyNot } from '../session';
import { Badge, Button, Page, Panel, TextField, Time } from '../ui/controls';
import { ask, FormDialog } from '../ui/dialog';
import { Empty, Loaded, useResource } from '../ui/resource';
import { Table } from '../ui/table';
import { toast } from '../ui/toast';

type Session = Schemas['Session'];

export function Sessions() {
  const reason = whyNot('person');
  const sessions = useResource(() => take(api.GET('/api/v1/sessions', whyNot('owner') ? {} : { params: { query: { operator_id: 'all' } } })), []);
  // Names only for owners, who may see operators.
  const operators = useResource(async () => (whyNot('owner') ? [] : (await take(api.GET('/api/v1/operators', { params: { query: { limit: 200 } } }))).items), []);
  const [changing, setChanging] = useState(false);
  const nameOf = (id: string) => operators.value?.find((it) => it.id === id)?.name ?? (id === me.value?.id ? me.value.name : id);
  const end = (session: Session) =>
    ask({
      title: `End the session of ${nameOf(session.operator_id)}?`,
      body: (
        <p>
          It was opened <Time at={session.created_at} /> from {session.address ?? 'an unknown address'}. Whoever uses it has to sign in again.
          {session.current && ' It is the one that you use now.'}
        </p>
      ),
      action: 'End the session',
      run: async () => {
        await take(api.DELETE('/api/v1/sessions/{session_id}', { params: { path: { session_id: session.id } } }));
        toast('Ended the session.');
        await sessions.reload();
      },
    });
  return (
    <Page
      title="Sessions"
      lead="Where you are signed in; owners see all sessions."
      actions={
        <Button reason={reason} onClick={() => setChanging(true)}>
          Change my password
        </Button>
      }
    >
      <Panel title="Open sessions">
        <Loaded from={sessions}>
          {(list) =>
            list.length === 0 ? (
              <Empty title="No session is open" />
            ) : (
              <Table
                label="Sessions"
                rows={list}
                rowKey={({ id }) => id}
                columns={[
                  { name: 'Operator', cell: ({ operator_id, current }) => <>{nameOf(operator_id)} {current && <Badge kind="good">this one</Badge>}</> },
                  { name: 'From', cell: ({ address }) => address ?? '–' },
                  { name: 'Program', cell: ({ agent }) => agent ?? '–' },
                  { name: 'Opened', cell: ({ created_at }) => <Time at={created_at} /> },
                  { name: 'Last used', cell: ({ last_used_at }) => <Time at={last_used_at} relative /> },
                  { name: 'Ends', cell: ({ expires_at }) => <Time at={expires_at} relative /> },
                  {
                    name: 'Actions',
                    cell: (session) => (
                      <Button kind="quiet" label={`End the session ${session.id}`} onClick={() => end(session)}>
                        End
                      </Button>
                    ),
                  },
                ]}
              />
            )
          }
        </Loaded>
      </Panel>
      {changing && <OwnPassword onClose={() => setChanging(false)} />}
    </Page>
  );
}

function OwnPassword({ onClose }: { onClose: () => void }) {
  const [current, setCurrent] = useState('');
  const [next, setNext] = useState('');
  const submit = async () => {
    await take(api.PUT('/api/v1/me/password', { body: { current_password: current, new_password: next } }));
    toast('Changed your password. All your sessions have ended; sign in with the new one.');
    me.value = null;
  };
  return (
    <FormDialog title="Change my password" action="Change" onClose={onClose} submit={submit}>
      <p class="dim">It ends all your sessions, this one as well.</p>
      <TextField label="Password now" value={current} onInput={setCurrent} input={{ type: 'password', autocomplete: 'current-password', required: true }} />
      <TextField label="New password" value={next} onInput={setNext} help="10 characters or more." input={{ type: 'password', autocomplete: 'new-password', required: true, minlength: 10 }} />
    </FormDialog>
  );
}
