import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { localTime, plural } from '../format';
import { whyNot } from '../session';
import { Badge, Button, Copy, Facts, Page, Panel, Select, TextField, Time } from '../ui/controls';
import { ask, FormDialog, Once } from '../ui/dialog';
import { Listing, usePages } from '../ui/table';
import { toast } from '../ui/toast';

type Key = Schemas['Key'];

const STATES: Record<Schemas['KeyState'], 'good' | 'warn' | 'bad' | 'plain'> = { active: 'good', expiring: 'warn', expired: 'plain', revoked: 'plain' };

/** So many connections are counted; of more it is said that there are more. */
const COUNTED = 200;

const EXPIRIES = [
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
  const revoke = async (listed: Key) => {
    // The list may have been open for long; whoever revokes a key must know what uses it now.
    const path = { app_id: appId, key: listed.key };
    const [key, connections] = await Promise.all([take(api.GET('/api/v1/apps/{app_id}/keys/{key}', { params: { path } })), connectionsOf(appId, listed.key)]);
    ask({
      title: `Revoke the key ${key.key} now?`,
      body: (
        <>
          <p>
            {key.label && `“${key.label}”. `}Its clients are disconnected at once, and its backends refused. This can’t be undone.
          </p>
          <p>
            <strong>{connections}</strong>{' '}
            {key.last_used_at ? (
              <>
                It last let a client in or signed something <Time at={key.last_used_at} relative />, from {key.last_used_from ?? 'an unknown address'}.
              </>
            ) : (
              'No other use of it is recorded.'
            )}
          </p>
          <p>With an expiry instead, what still uses it has time to change.</p>
        </>
      ),
      action: 'Revoke',
      typed: key.key,
      run: async () => {
        await take(api.DELETE('/api/v1/apps/{app_id}/keys/{key}', { params: { path } }));
        await pages.reload();
        toast(`Revoked ${key.key}.`);
      },
    });
  };
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
              ['Secret', <span><code>{created.secret}</code> <Copy text={created.secret} what="the secret" first /></span>],
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

/** How many connections use a key now, in words. */
async function connectionsOf(appId: string, key: string): Promise<string> {
  let [found, cursor, missing] = [0, undefined as string | undefined, [] as string[]];
  try {
    do {
      const query = { key, limit: COUNTED, ...(cursor ? { cursor } : {}) };
      const page = await take(api.GET('/api/v1/apps/{app_id}/connections', { params: { path: { app_id: appId }, query } }));
      found += page.items.length;
      cursor = page.next_cursor ?? undefined;
      missing = page.unanswered;
    } while (cursor && found < COUNTED);
  } catch (error) {
    return `How many connections use it now can’t be said: ${(error as Error).message}`;
  }
  const known = found === 0 ? 'No open connection uses it.' : `${cursor ? 'More than ' : ''}${plural(found, 'open connection')} ${found === 1 ? 'uses' : 'use'} it.`;
  return missing.length > 0 ? `${known} Not counted are those of nodes that did not answer: ${missing.join(', ')}.` : known;
}

function CreateKey({ appId, onClose, onCreated }: { appId: string; onClose: () => void; onCreated: (key: Schemas['CreatedKey']) => Promise<void> }) {
  const [label, setLabel] = useState('');
  const [expiry, setExpiry] = useState<Expiry>({ choice: 'never', at: '' });
  const [once] = useState(() => crypto.getRandomValues(new Uint32Array(4)).join('-'));
  const submit = async () => {
    const body = { ...(label.trim() ? { label: label.trim() } : {}), expires_at: expiresAt(expiry) };
    await onCreated(await take(api.POST('/api/v1/apps/{app_id}/keys', { params: { path: { app_id: appId }, header: { 'idempotency-key': once } }, body })));
  };
  return (
    <FormDialog title="Create a key" action="Create" onClose={onClose} submit={submit}>
      <TextField label="Label" value={label} onInput={setLabel} help="Where it is used, for those who come after you." input={{ maxlength: 200, placeholder: 'checkout backend', autofocus: true }} />
      <ExpiryFields expiry={expiry} onChange={setExpiry} options={[['never', 'never']]} />
    </FormDialog>
  );
}

function ChangeKey({ shown, onClose, submit }: { shown: Key; onClose: () => void; submit: (body: Schemas['UpdateKey']) => Promise<void> }) {
  const [label, setLabel] = useState(shown.label ?? '');
  const [expiry, setExpiry] = useState<Expiry>({ choice: 'keep', at: '' });
  const send = async () => submit({ label: label.trim() || null, ...(expiry.choice === 'keep' ? {} : { expires_at: expiresAt(expiry) }) });
  const now = shown.expires_at === null ? 'never, as now' : `at ${localTime(shown.expires_at)}, as now`;
  return (
    <FormDialog title={`Change ${shown.key}`} action="Save" onClose={onClose} submit={send}>
      <TextField label="Label" value={label} onInput={setLabel} input={{ maxlength: 200 }} />
      <ExpiryFields expiry={expiry} onChange={setExpiry} options={[['keep', now], ...(shown.expires_at === null ? [] : [['never', 'never'] as const])]} />
    </FormDialog>
  );
}

interface Expiry {
  choice: string;
  /** A time of the viewer's zone, as its field has it. */
  at: string;
}

/** Unix time in milliseconds, or `null` for never. */
function expiresAt({ choice, at }: Expiry): number | null {
  if (choice === 'never') return null;
  return choice === 'at' ? Date.parse(at) : Date.now() + Number(choice) * 1000;
}

function ExpiryFields({ expiry, onChange, options }: { expiry: Expiry; onChange: (expiry: Expiry) => void; options: readonly (readonly [string, string])[] }) {
  return (
    <>
      <Select
        label="It expires"
        value={expiry.choice}
        onChange={(choice) => onChange({ ...expiry, choice })}
        help="Until then it works beside others. From then on its clients are disconnected, and its backends refused."
        options={[...options, ...EXPIRIES, ['at', 'at a time …']]}
      />
      {expiry.choice === 'at' && <TextField label="Time" value={expiry.at} onInput={(at) => onChange({ ...expiry, at })} help="In your time zone." input={{ type: 'datetime-local', required: true }} />}
    </>
  );
}
