import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { whyNot } from '../session';
import { Badge, Button, Copy, Facts, Field, Page, Panel, Select, TextField, Time } from '../ui/controls';
import { ask, FormDialog, Once } from '../ui/dialog';
import { Listing, usePages } from '../ui/table';
import { toast } from '../ui/toast';

type Key = Schemas['Key'];

const STATES: Record<Schemas['KeyState'], 'good' | 'warn' | 'bad' | 'plain'> = { active: 'good', expiring: 'warn', expired: 'plain', revoked: 'plain' };

/** How long an old key lives on beside the new one. */
const OVERLAPS = [
  ['3600', 'in an hour'],
  ['86400', 'in a day'],
  ['604800', 'in a week'],
  ['2592000', 'in 30 days'],
] as const;

export function Keys({ appId }: { appId: string }) {
  const pages = usePages((cursor) => take(api.GET('/api/v1/apps/{app_id}/keys', { params: { path: { app_id: appId }, query: cursor ? { cursor } : {} } })), [appId]);
  const [creating, setCreating] = useState(false);
  const [created, setCreated] = useState<Schemas['CreatedKey']>();
  const [changed, setChanged] = useState<Key>();
  const reason = whyNot('app-admin');
  const update = async (key: string, body: Schemas['UpdateKey']) => {
    await take(api.PATCH('/api/v1/apps/{app_id}/keys/{key}', { params: { path: { app_id: appId, key } }, body }));
    await pages.reload();
  };
  const revoke = (key: Key) =>
    ask({
      title: `Revoke the key ${key.key} now?`,
      body: (
        <>
          <p>
            {key.label && `“${key.label}”. `}Its clients are disconnected at once, and its backends refused. This can’t be undone.{' '}
            {key.last_used_at ? (
              <>
                It was last used <Time at={key.last_used_at} relative /> from {key.last_used_from ?? 'an unknown address'}.
              </>
            ) : (
              'It was never used.'
            )}
          </p>
          <p>With an expiry instead, what still uses it has time to change.</p>
        </>
      ),
      action: 'Revoke',
      typed: key.key,
      run: async () => {
        await take(api.DELETE('/api/v1/apps/{app_id}/keys/{key}', { params: { path: { app_id: appId, key: key.key } } }));
        await pages.reload();
        toast(`Revoked ${key.key}.`);
      },
    });
  return (
    <Page
      title="Keys"
      lead="Several keys are active at once. Create the new one, give it to backends and then to clients, look when the old one was last used, and let it expire."
      actions={
        <Button kind="main" reason={reason} onClick={() => setCreating(true)}>
          Create a key
        </Button>
      }
    >
      <Panel title="Keys of this app">
        <Listing
          pages={pages}
          label="Keys"
          rowKey={({ key }) => key}
          empty="The app has no key."
          columns={[
            {
              name: 'Key',
              cell: ({ key }) => (
                <>
                  <code>{key}</code> <Copy text={key} what={`the key ${key}`} />
                </>
              ),
            },
            { name: 'Label', cell: ({ label }) => label ?? '–' },
            { name: 'State', cell: ({ state }) => <Badge kind={STATES[state]}>{state}</Badge> },
            { name: 'Created', cell: ({ created_at }) => <Time at={created_at} /> },
            { name: 'Expires', cell: ({ expires_at, revoked_at }) => (revoked_at ? <>revoked <Time at={revoked_at} /></> : <Time at={expires_at} />) },
            {
              name: 'Last used',
              cell: ({ last_used_at, last_used_from }) => (
                <>
                  <Time at={last_used_at} relative /> {last_used_from && <span class="dim">from {last_used_from}</span>}
                </>
              ),
            },
            {
              name: 'Actions',
              cell: (key) =>
                key.state === 'active' || key.state === 'expiring' ? (
                  <span class="actions">
                    <Button kind="quiet" label={`Change ${key.key}`} reason={reason} onClick={() => setChanged(key)}>
                      Change
                    </Button>
                    <Button kind="quiet" label={`Revoke ${key.key}`} reason={reason} onClick={() => revoke(key)}>
                      Revoke
                    </Button>
                  </span>
                ) : null,
            },
          ]}
        />
      </Panel>
      {creating && (
        <CreateKey
          appId={appId}
          onClose={() => setCreating(false)}
          onCreated={async (key) => {
            setCreated(key);
            await pages.reload();
          }}
        />
      )}
      {created && (
        <Once title="The new key" onClose={() => setCreated(undefined)}>
          <Facts
            of={[
              ['Key', <span><code>{created.key}</code> <Copy text={created.key} what="the key" /></span>],
              ['Secret', <span><code>{created.secret}</code> <Copy text={created.secret} what="the secret" /></span>],
            ]}
          />
        </Once>
      )}
      {changed && (
        <ChangeKey
          shown={changed}
          onClose={() => setChanged(undefined)}
          submit={async (body) => {
            await update(changed.key, body);
            const { label, expires_at } = changed;
            toast(`Changed ${changed.key}.`, { undo: () => update(changed.key, { label, expires_at }) });
          }}
        />
      )}
    </Page>
  );
}

function CreateKey({ appId, onClose, onCreated }: { appId: string; onClose: () => void; onCreated: (key: Schemas['CreatedKey']) => Promise<void> }) {
  const [label, setLabel] = useState('');
  const [once] = useState(() => crypto.getRandomValues(new Uint32Array(4)).join('-'));
  const submit = async () => {
    const key = await take(
      api.POST('/api/v1/apps/{app_id}/keys', { params: { path: { app_id: appId }, header: { 'idempotency-key': once } }, body: label.trim() ? { label: label.trim() } : {} }),
    );
    await onCreated(key);
  };
  return (
    <FormDialog title="Create a key" action="Create" onClose={onClose} submit={submit}>
      <TextField label="Label" value={label} onInput={setLabel} help="Where it is used, for those who come after you." input={{ maxlength: 200, placeholder: 'checkout backend', autofocus: true }} />
    </FormDialog>
  );
}

function ChangeKey({ shown, onClose, submit }: { shown: Key; onClose: () => void; submit: (body: Schemas['UpdateKey']) => Promise<void> }) {
  const [label, setLabel] = useState(shown.label ?? '');
  const [expiry, setExpiry] = useState<string>('keep');
  const send = () => {
    const expires_at = expiry === 'never' ? null : Date.now() + Number(expiry) * 1000;
    return submit({ label: label.trim() || null, ...(expiry === 'keep' ? {} : { expires_at }) });
  };
  return (
    <FormDialog title={`Change ${shown.key}`} action="Save" onClose={onClose} submit={send}>
      <TextField label="Label" value={label} onInput={setLabel} input={{ maxlength: 200 }} />
      <Select
        label="It expires"
        value={expiry}
        onChange={setExpiry}
        help="Until then both keys work. Clients of a key that expires are disconnected."
        options={[['keep', shown.expires_at ? 'as it is set' : 'never, as now'], ...(shown.expires_at ? ([['never', 'never']] as const) : []), ...OVERLAPS]}
      />
      {shown.expires_at && (
        <Field label="Set now">{(props) => <output {...props}><Time at={shown.expires_at} /></output>}</Field>
      )}
    </FormDialog>
  );
}
