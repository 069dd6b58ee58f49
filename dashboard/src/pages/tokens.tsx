import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { me, whyNot } from '../session';
import { Badge, Button, Copy, Facts, Page, Panel, TextField, Time } from '../ui/controls';
import { ask, FormDialog, Once } from '../ui/dialog';
import { Listing, usePages } from '../ui/table';
import { toast } from '../ui/toast';
import { appsOf, cleanApps, RightsFields } from './rights';

type Token = Schemas['Token'];

export function Tokens() {
  const pages = usePages((cursor) => take(api.GET('/api/v1/tokens', { params: { query: cursor ? { cursor } : {} } })), []);
  const [creating, setCreating] = useState(false);
  const [created, setCreated] = useState<Schemas['CreatedToken']>();
  const reason = whyNot('some-admin');
  const revoke = async (listed: Token) => {
    // The list may have been open for long.
    const token = await take(api.GET('/api/v1/tokens/{token_id}', { params: { path: { token_id: listed.id } } }));
    ask({
      title: `Revoke the token ${token.name}?`,
      body: (
        <p>
          Programs that use it are refused at once. This can’t be undone.{' '}
          {token.last_used_at ? <>It was last used <Time at={token.last_used_at} relative />.</> : 'It was never used.'}
        </p>
      ),
      action: 'Revoke',
      run: async () => {
        await take(api.DELETE('/api/v1/tokens/{token_id}', { params: { path: { token_id: token.id } } }));
        await pages.reload();
        toast(`Revoked ${token.name}.`);
      },
    });
  };
  return (
    <Page
      title="API tokens"
      lead="What programs sign in with. A token never has more rights than who created it, and is valid for at most 366 days."
      actions={
        <Button kind="main" reason={reason} onClick={() => setCreating(true)}>
          Create a token
        </Button>
      }
    >
      <Panel title="Tokens">
        <Listing
          pages={pages}
          label="API tokens"
          rowKey={({ id }) => id}
          empty="No token"
          columns={[
            { name: 'Name', cell: ({ name }) => name },
            { name: 'Role', cell: ({ role }) => <Badge>{role}</Badge> },
            { name: 'Apps', cell: ({ apps }) => appsOf(apps) },
            {
              name: 'State',
              cell: ({ active, revoked_at }) => (
                <>
                  <Badge kind={active ? 'good' : 'plain'}>{active ? 'active' : revoked_at ? 'revoked' : 'expired'}</Badge> {revoked_at && <Time at={revoked_at} />}
                </>
              ),
            },
            { name: 'Expires', cell: ({ expires_at }) => <Time at={expires_at} /> },
            { name: 'Last used', cell: ({ last_used_at }) => <Time at={last_used_at} relative /> },
            { name: 'Created', cell: ({ created_at }) => <Time at={created_at} /> },
            {
              name: 'Actions',
              cell: (token) =>
                token.active && (
                  <Button kind="quiet" label={`Revoke ${token.name}`} reason={reason} onClick={() => revoke(token)}>
                    Revoke
                  </Button>
                ),
            },
          ]}
        />
      </Panel>
      {creating && (
        <CreateToken
          onClose={() => setCreating(false)}
          onCreated={async (token) => {
            setCreated(token);
            await pages.reload();
          }}
        />
      )}
      {created && (
        <Once title={`The token ${created.name}`} onClose={() => setCreated(undefined)}>
          <Facts
            of={[
              ['Token', <span><code>{created.secret}</code> <Copy text={created.secret} what="the token" first /></span>],
              ['Expires', <Time at={created.expires_at} />],
            ]}
          />
        </Once>
      )}
    </Page>
  );
}

function CreateToken({ onClose, onCreated }: { onClose: () => void; onCreated: (token: Schemas['CreatedToken']) => Promise<void> }) {
  const own = me.value?.apps ?? null;
  const [name, setName] = useState('');
  const [days, setDays] = useState('90');
  const [rights, setRights] = useState<{ role: Schemas['Role']; apps: string[] | null }>({ role: 'viewer', apps: own });
  const [once] = useState(() => crypto.getRandomValues(new Uint32Array(4)).join('-'));
  const submit = async () => {
    const body = { name: name.trim(), role: rights.role, apps: cleanApps(rights.apps), expires_in_days: Number(days) };
    await onCreated(await take(api.POST('/api/v1/tokens', { params: { header: { 'idempotency-key': once } }, body })));
  };
  return (
    <FormDialog title="Create an API token" action="Create" onClose={onClose} submit={submit}>
      <TextField label="Name" value={name} onInput={setName} help="The program that uses it." input={{ required: true, maxlength: 200, autofocus: true, placeholder: 'deploy pipeline' }} />
      <RightsFields {...rights} onChange={setRights} most={me.value?.role ?? 'viewer'} own={own} />
      <TextField label="Valid for (days)" value={days} onInput={setDays} input={{ type: 'number', min: 1, max: 366, required: true }} />
    </FormDialog>
  );
}
