import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { me } from '../session';
import { Badge, Button, Copy, Page, Panel, TextField, Time } from '../ui/controls';
import { ask, FormDialog } from '../ui/dialog';
import { Listing, usePages } from '../ui/table';
import { toast } from '../ui/toast';
import { appsOf, cleanApps, RightsFields } from './rights';

type Operator = Schemas['Operator'];

export function Operators() {
  return (
    <Page title="Operators" lead="The people who may sign in here, in the API and with the command line.">
      <List />
    </Page>
  );
}

function List() {
  const pages = usePages((cursor) => take(api.GET('/api/v1/operators', { params: { query: cursor ? { cursor } : {} } })), []);
  const [open, setOpen] = useState<{ at: 'create' } | { at: 'change' | 'password'; operator: Operator } | undefined>();
  const close = () => setOpen(undefined);
  const update = async (operator: Operator, body: Schemas['UpdateOperator']) => {
    await take(api.PATCH('/api/v1/operators/{operator_id}', { params: { path: { operator_id: operator.id } }, body }));
    await pages.reload();
  };
  const enable = async (operator: Operator, enabled: boolean) => {
    await update(operator, { enabled });
    toast(`${operator.name} is ${enabled ? 'enabled' : 'disabled'}.`, { undo: () => update(operator, { enabled: !enabled }) });
  };
  const disable = (operator: Operator) =>
    ask({
      title: `Disable ${operator.name}?`,
      body: <p>They are signed out, and the API tokens that they created are revoked for good. The operator can be enabled again.</p>,
      action: 'Disable',
      run: () => enable(operator, false),
    });
  const remove = (operator: Operator) =>
    ask({
      title: `Delete the operator ${operator.name}?`,
      body: <p>They are signed out, and the API tokens that they created are revoked. The audit log keeps their entries. This can’t be undone.</p>,
      action: 'Delete',
      typed: operator.name,
      run: async () => {
        await take(api.DELETE('/api/v1/operators/{operator_id}', { params: { path: { operator_id: operator.id } } }));
        await pages.reload();
      },
    });
  return (
    <>
      <Panel
        title="Operators"
        actions={
          <Button kind="main" onClick={() => setOpen({ at: 'create' })}>
            Create an operator
          </Button>
        }
      >
        <Listing
          pages={pages}
          label="Operators"
          rowKey={({ id }) => id}
          empty="No operator"
          columns={[
            { name: 'Name', cell: ({ name, id }) => <>{name} {id === me.value?.id && <Badge>you</Badge>}</> },
            { name: 'Id', cell: ({ id }) => <><code>{id}</code> <Copy text={id} what={`the id ${id}`} /></> },
            { name: 'Role', cell: ({ role }) => <Badge>{role}</Badge> },
            { name: 'Apps', cell: ({ apps }) => appsOf(apps) },
            { name: 'State', cell: ({ enabled }) => <Badge kind={enabled ? 'good' : 'warn'}>{enabled ? 'enabled' : 'disabled'}</Badge> },
            { name: 'Created', cell: ({ created_at }) => <Time at={created_at} /> },
            {
              name: 'Actions',
              cell: (operator) => (
                <span class="actions">
                  <Button kind="quiet" label={`Change ${operator.name}`} onClick={() => setOpen({ at: 'change', operator })}>
                    Change
                  </Button>
                  <Button kind="quiet" label={`Set the password of ${operator.name}`} onClick={() => setOpen({ at: 'password', operator })}>
                    Password
                  </Button>
                  {operator.enabled ? (
                    <Button kind="quiet" label={`Disable ${operator.name}`} onClick={() => disable(operator)}>
                      Disable
                    </Button>
                  ) : (
                    <Button kind="quiet" label={`Enable ${operator.name}`} onClick={() => enable(operator, true)}>
                      Enable
                    </Button>
                  )}
                  <Button kind="quiet" label={`Delete ${operator.name}`} onClick={() => remove(operator)}>
                    Delete
                  </Button>
                </span>
              ),
            },
          ]}
        />
      </Panel>
      {open?.at === 'create' && <CreateOperator onClose={close} onCreated={pages.reload} />}
      {open?.at === 'change' && (
        <ChangeOperator
          operator={open.operator}
          onClose={close}
          submit={async (body) => {
            const { name, role, apps } = open.operator;
            await update(open.operator, body);
            toast(`Changed ${name}.`, { undo: () => update(open.operator, { name, role, apps }) });
          }}
        />
      )}
      {open?.at === 'password' && <Password operator={open.operator} onClose={close} />}
    </>
  );
}

function CreateOperator({ onClose, onCreated }: { onClose: () => void; onCreated: () => Promise<void> }) {
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [rights, setRights] = useState<{ role: Schemas['Role']; apps: string[] | null }>({ role: 'viewer', apps: null });
  const [once] = useState(() => crypto.getRandomValues(new Uint32Array(4)).join('-'));
  const submit = async () => {
    await take(api.POST('/api/v1/operators', { params: { header: { 'idempotency-key': once } }, body: { name: name.trim(), password, role: rights.role, apps: cleanApps(rights.apps) } }));
    await onCreated();
  };
  return (
    <FormDialog title="Create an operator" action="Create" onClose={onClose} submit={submit}>
      <TextField label="Name" value={name} onInput={setName} help="What they sign in with." input={{ required: true, maxlength: 200, autofocus: true }} />
      <TextField label="Password" value={password} onInput={setPassword} help="10 characters or more. They can change it." input={{ type: 'password', autocomplete: 'new-password', required: true, minlength: 10 }} />
      <RightsFields {...rights} onChange={setRights} />
    </FormDialog>
  );
}

function ChangeOperator({ operator, onClose, submit }: { operator: Operator; onClose: () => void; submit: (body: Schemas['UpdateOperator']) => Promise<void> }) {
  const [name, setName] = useState(operator.name);
  const [rights, setRights] = useState({ role: operator.role, apps: operator.apps });
  return (
    <FormDialog title={`Change ${operator.name}`} action="Save" onClose={onClose} submit={() => submit({ name: name.trim(), role: rights.role, apps: cleanApps(rights.apps) })}>
      <TextField label="Name" value={name} onInput={setName} input={{ required: true, maxlength: 200 }} />
      <RightsFields {...rights} onChange={setRights} />
    </FormDialog>
  );
}

function Password({ operator, onClose }: { operator: Operator; onClose: () => void }) {
  const [password, setPassword] = useState('');
  const submit = async () => {
    await take(api.PUT('/api/v1/operators/{operator_id}/password', { params: { path: { operator_id: operator.id } }, body: { password } }));
    toast(`Set the password of ${operator.name}. Their sessions have ended.`);
  };
  return (
    <FormDialog title={`Set the password of ${operator.name}`} action="Set" onClose={onClose} submit={submit}>
      <p class="dim">It ends their sessions.</p>
      <TextField label="New password" value={password} onInput={setPassword} help="10 characters or more." input={{ type: 'password', autocomplete: 'new-password', required: true, minlength: 10 }} />
    </FormDialog>
  );
}
