import { useState } from 'preact/hooks';
import { api, type Schemas, take } from '../api/client';
import { loadApps } from '../apps';
import { go, href, route, setQuery } from '../router';
import { whyNot } from '../session';
import { Button, Check, Copy, Facts, Page, TextField, Time } from '../ui/controls';
import { FormDialog, Once } from '../ui/dialog';
import { Empty } from '../ui/resource';
import { Listing, usePages } from '../ui/table';
import { AppLink, AppShortcuts } from './overview';

export function Apps() {
  const pages = usePages((cursor) => take(api.GET('/api/v1/apps', { params: { query: { ...(cursor ? { cursor } : {}) } } })), []);
  const creating = route.value.query.get('create') === '1';
  const [created, setCreated] = useState<Schemas['CreatedApp']>();
  const reason = whyNot('admin-of-all');
  const create = (
    <Button kind="main" reason={reason} onClick={() => setQuery({ create: '1' })}>
      Create an app
    </Button>
  );
  return (
    <Page title="Apps" actions={create} lead="An app has its own keys, channels, limits and usage. Apps don’t see each other.">
      <Listing
        pages={pages}
        label="Apps"
        rowKey={({ id }) => id}
        empty={<Empty title="No app yet">{create}</Empty>}
        columns={[
          { name: 'Name', cell: (app) => <AppLink app={app} /> },
          {
            name: 'Id',
            cell: ({ id }) => (
              <>
                <code>{id}</code> <Copy text={id} what={`the id ${id}`} />
              </>
            ),
          },
          { name: 'Open', cell: ({ id }) => <AppShortcuts id={id} /> },
          { name: 'Created', cell: ({ created_at }) => <Time at={created_at} /> },
          { name: 'Changed', cell: ({ updated_at }) => <Time at={updated_at} /> },
        ]}
      />
      {creating && !reason && (
        <CreateApp
          onClose={() => setQuery({ create: '' })}
          onCreated={async (app) => {
            setCreated(app);
            await Promise.all([pages.reload(), loadApps()]);
          }}
        />
      )}
      {created && (
        <Once
          title={`${created.name} was created`}
          onClose={() => {
            setCreated(undefined);
            go(href(['apps', created.id]));
          }}
        >
          <Credentials app={created} />
          {created.warnings?.map((warning) => (
            <p key={warning} class="note warn">
              {warning}
            </p>
          ))}
        </Once>
      )}
    </Page>
  );
}

function Credentials({ app }: { app: Schemas['CreatedApp'] }) {
  const env = `FANFARE_APP_ID=${app.id}\nFANFARE_KEY=${app.key.key}\nFANFARE_SECRET=${app.key.secret}\n`;
  const value = (text: string, what: string, first = false) => (
    <>
      <code>{text}</code> <Copy text={text} what={what} first={first} />
    </>
  );
  return (
    <>
      <Facts
        of={[
          ['App id', value(app.id, 'the app id')],
          ['Key', value(app.key.key, 'the key')],
          ['Secret', value(app.key.secret, 'the secret', true)],
        ]}
      />
      <p>
        All three for a backend: <Copy text={env} what="all as environment variables" />
      </p>
    </>
  );
}

function CreateApp({ onClose, onCreated }: { onClose: () => void; onCreated: (app: Schemas['CreatedApp']) => Promise<void> }) {
  const [name, setName] = useState('');
  const [clientEvents, setClientEvents] = useState(false);
  const [imported, setImported] = useState({ id: '', key: '', secret: '' });
  const [key] = useState(() => crypto.getRandomValues(new Uint32Array(4)).join('-'));
  const submit = async () => {
    const given = Object.fromEntries(Object.entries(imported).filter(([, value]) => value !== ''));
    const app = await take(
      api.POST('/api/v1/apps', { params: { header: { 'idempotency-key': key } }, body: { name, settings: { client_events: clientEvents }, ...given } }),
    );
    await onCreated(app);
  };
  const set = (field: keyof typeof imported) => (value: string) => setImported({ ...imported, [field]: value });
  return (
    <FormDialog title="Create an app" action="Create" onClose={onClose} submit={submit}>
      <TextField label="Name" value={name} onInput={setName} input={{ required: true, maxlength: 200, autofocus: true, placeholder: 'orders' }} />
      <Check label="Clients may send events" checked={clientEvents} onChange={setClientEvents} help="From client to client on private and presence channels, without a backend. It can be changed later." />
      <details>
        <summary>Move an app from another server</summary>
        <p class="dim">With the same id, key and secret, clients and backends need only another host. Whatever is left empty is made up.</p>
        <TextField label="App id" value={imported.id} onInput={set('id')} />
        <TextField label="Key" value={imported.key} onInput={set('key')} />
        <TextField label="Secret" value={imported.secret} onInput={set('secret')} input={{ type: 'password', autocomplete: 'off' }} />
      </details>
    </FormDialog>
  );
}
