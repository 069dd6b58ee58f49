import { useState } from 'preact/hooks';
import { api, ApiError, type Schemas, take, takeWithTag } from '../api/client';
import { whyNot } from '../session';
import { Button, Code, Field, Page, Panel } from '../ui/controls';
import { ask } from '../ui/dialog';
import { Loaded, useResource } from '../ui/resource';
import { Table } from '../ui/table';
import { toast } from '../ui/toast';

type Identity = Schemas['Identity'];

const EXAMPLE: Identity = {
  providers: [{ issuer: 'https://login.example.com', audience: ['orders'], jwks_url: 'https://login.example.com/.well-known/jwks.json', algorithms: ['RS256'] }],
  grants: [{ channels: 'private-user-{sub}' }, { channels: 'presence-team-{team}', presence: { user_id: 'sub', user_info: { name: 'name' } } }],
  sign_in: { id: 'sub', user_info: { name: 'name' } },
};

export function Identity({ appId }: { appId: string }) {
  const path = { app_id: appId };
  const found = useResource(() => takeWithTag(api.GET('/api/v1/apps/{app_id}/identity', { params: { path } })).catch(noneYet), [appId]);
  return (
    <Page title="Identity" lead="Whose tokens (JWTs) open which channels, so that the app needs no endpoint of its own for channel auth.">
      <Loaded from={found}>{({ value, tag }) => <Editor key={tag + JSON.stringify(value)} appId={appId} value={value} tag={tag} reload={found.reload} />}</Loaded>
    </Page>
  );
}

/** An app without an identity has an empty one to begin with. */
function noneYet(error: unknown): { value: Identity; tag: string } {
  if (error instanceof ApiError && error.status === 404 && /has no identity/.test(error.message)) return { value: {}, tag: '' };
  throw error;
}

function Editor({ appId, value, tag, reload }: { appId: string; value: Identity; tag: string; reload: () => Promise<void> }) {
  const before = JSON.stringify(value, null, 2);
  const [text, setText] = useState(before);
  const [error, setError] = useState<string>();
  const reason = whyNot('app-admin');
  const invalid = problemOf(text);
  const isEmpty = !value.providers?.length;
  const params = { path: { app_id: appId }, ...(tag ? { header: { 'if-match': tag } } : {}) };
  const save = async () => {
    setError(undefined);
    try {
      await take(api.PUT('/api/v1/apps/{app_id}/identity', { params, body: JSON.parse(text) as Identity }));
      toast('Saved the identity.');
      await reload();
    } catch (failure) {
      setError((failure as Error).message);
    }
  };
  const remove = () =>
    ask({
      title: 'Remove the identity?',
      body: <p>Clients that bring tokens are refused from then on. Secrets of providers can’t be shown, so keep them elsewhere if you may need them again.</p>,
      action: 'Remove',
      run: async () => {
        await take(api.DELETE('/api/v1/apps/{app_id}/identity', { params }));
        await reload();
      },
    });
  return (
    <>
      <div class="two">
        <Panel title="Providers">
          {isEmpty ? (
            <p class="dim">No provider: clients get channel auth from the app’s own backend.</p>
          ) : (
            <Table
              label="Providers"
              rows={value.providers ?? []}
              rowKey={({ issuer, jwks_url }) => `${issuer} ${jwks_url}`}
              columns={[
                { name: 'Issuer', cell: ({ issuer }) => issuer ?? 'any' },
                { name: 'Audience', cell: ({ audience }) => audience?.join(', ') || 'any' },
                { name: 'Algorithms', cell: ({ algorithms }) => algorithms?.join(', ') },
                { name: 'Keys', cell: ({ jwks_url, public_key, secret }) => jwks_url ?? (public_key ? 'a public key' : secret ? 'a secret' : '–') },
              ]}
            />
          )}
        </Panel>
        <Panel title="Grants">
          {value.grants?.length ? (
            <Table
              label="Grants"
              rows={value.grants.map((grant, at) => ({ ...grant, number: at }))}
              rowKey={({ number }) => number}
              columns={[
                { name: 'Channels', cell: ({ channels, channels_claim }) => <code>{channels ?? `those of the claim ${channels_claim}`}</code> },
                { name: 'If', cell: ({ when }) => (when && Object.keys(when).length > 0 ? <code>{JSON.stringify(when)}</code> : 'always') },
                { name: 'Member', cell: ({ presence }) => presence?.user_id ?? '–' },
              ]}
            />
          ) : (
            <p class="dim">No grant: a token opens no channel.</p>
          )}
        </Panel>
      </div>
      <Panel title="As JSON">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            if (!reason && !invalid && text !== before) void save();
          }}
        >
          <Field label="Identity" error={invalid} help="A secret that is set is shown as “set”; leave it so to keep it.">
            {(props) => <textarea {...props} rows={16} spellcheck={false} disabled={!!reason} value={text} onInput={(event) => setText(event.currentTarget.value)} />}
          </Field>
          {error && (
            <p class="note bad" role="alert">
              {error}
            </p>
          )}
          <div class="actions">
            <Button type="submit" kind="main" reason={reason ?? invalid ?? (text === before ? 'Nothing was changed.' : undefined)}>
              Save
            </Button>
            <Button onClick={() => setText(JSON.stringify(EXAMPLE, null, 2))} reason={reason}>
              Put in an example
            </Button>
            <Button kind="danger" onClick={remove} reason={reason ?? (isEmpty ? 'There is none.' : undefined)}>
              Remove
            </Button>
          </div>
        </form>
        <details>
          <summary>An example</summary>
          <Code text={JSON.stringify(EXAMPLE, null, 2)} what="the example" />
        </details>
      </Panel>
    </>
  );
}

function problemOf(text: string): string | undefined {
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    return `This is not JSON: ${(error as Error).message}`;
  }
}
