import { useState } from 'preact/hooks';
import { api, ApiError, type Schemas, take, takeWithTag } from '../api/client';
import { formOf, type GrantForm, identityOf, type IdentityForm, KEPT, type KeySource, NEW_GRANT, NEW_PROVIDER, NEW_SIGN_IN, type ProviderForm, type SignInForm } from '../identity-form';
import { whyNot } from '../session';
import { Button, Check, Field, Page, Panel, Select, TextArea, TextField } from '../ui/controls';
import { ask } from '../ui/dialog';
import { Loaded, useResource } from '../ui/resource';
import { toast } from '../ui/toast';

type Identity = Schemas['Identity'];
type Algorithm = Schemas['Algorithm'];

const EXAMPLE: Identity = {
  providers: [{ issuer: 'https://login.example.com', audience: ['orders'], jwks_url: 'https://login.example.com/.well-known/jwks.json', algorithms: ['RS256'] }],
  grants: [{ channels: 'private-user-{sub}' }, { channels: 'presence-team-{team}', presence: { user_id: 'sub', user_info: { name: 'name' } } }],
  sign_in: { id: 'sub', user_info: { name: 'name' } },
};

const PUBLIC_KEY_ALGORITHMS: readonly Algorithm[] = ['RS256', 'ES256', 'EdDSA'];

const SOURCES = [
  ['jwks_url', 'at an address of the provider (JWKS)'],
  ['public_key', 'a public key'],
  ['secret', 'a shared secret'],
] as const;

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
  const [form, setForm] = useState<IdentityForm>(() => formOf(value));
  // Set while it is edited as JSON.
  const [text, setText] = useState<string>();
  const [error, setError] = useState<string>();
  const reason = whyNot('app-admin');
  const isNone = !tag;
  const params = { path: { app_id: appId }, ...(tag ? { header: { 'if-match': tag } } : {}) };
  const read = readOf(form, text);
  const isChanged = text === undefined ? JSON.stringify(form) !== JSON.stringify(formOf(value)) : JSON.stringify(read.identity) !== JSON.stringify(identityOf(formOf(value)));
  const set = (part: Partial<IdentityForm>) => setForm({ ...form, ...part });
  const save = async () => {
    setError(undefined);
    try {
      await take(api.PUT('/api/v1/apps/{app_id}/identity', { params, body: read.identity as Identity }));
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
  const toForm = () => {
    setForm(formOf(read.identity as Identity));
    setText(undefined);
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (!reason && !read.problem && isChanged) void save();
      }}
    >
      <div class="tabs">
        <Button pressed={text === undefined} reason={text === undefined ? undefined : read.problem} onClick={text === undefined ? undefined : toForm}>
          Form
        </Button>
        <Button pressed={text !== undefined} reason={text === undefined ? read.problem : undefined} onClick={() => text === undefined && setText(JSON.stringify(read.identity, null, 2))}>
          JSON
        </Button>
      </div>
      {text === undefined ? (
        <fieldset disabled={!!reason}>
          {reason && <p class="note">{reason}</p>}
          {isNone && form.providers.length === 0 && (
            <p class="note">
              No provider: clients get channel auth from the app’s own backend. <Button onClick={() => setForm(formOf(EXAMPLE))} reason={reason}>Begin with an example</Button>
            </p>
          )}
          <div class="two">
            <Several
              title="Providers"
              one="provider"
              help="Who issues the tokens that the app accepts, and how they are verified."
              items={form.providers}
              fresh={NEW_PROVIDER}
              reason={reason}
              onChange={(providers) => set({ providers })}
              fields={(provider, change) => <ProviderFields {...provider} change={change} />}
            />
            <div>
              <Several
                title="Grants"
                one="grant"
                help="Channels to which the bearer of a token may subscribe. One grant that matches is enough."
                items={form.grants}
                fresh={NEW_GRANT}
                reason={reason}
                onChange={(grants) => set({ grants })}
                fields={(grant, change) => <GrantFields {...grant} change={change} />}
              />
              <Panel title="Sign-in">
                <Check
                  label="Bearers of tokens may sign in as users"
                  checked={form.sign_in !== null}
                  onChange={(on) => set({ sign_in: on ? NEW_SIGN_IN : null })}
                  help="For events to one user, watchlists, and to disconnect a user."
                />
                {form.sign_in && <SignInFields {...form.sign_in} change={(part) => set({ sign_in: { ...(form.sign_in ?? NEW_SIGN_IN), ...part } })} />}
              </Panel>
            </div>
          </div>
        </fieldset>
      ) : (
        <Panel title="As JSON">
          <Field label="Identity" error={read.problem} help="A secret is shown as “set”. Leave it so to keep it.">
            {(props) => <textarea {...props} rows={20} spellcheck={false} disabled={!!reason} value={text} onInput={(event) => setText(event.currentTarget.value)} />}
          </Field>
          <Button onClick={() => setText(JSON.stringify(EXAMPLE, null, 2))} reason={reason}>
            Put in an example
          </Button>
        </Panel>
      )}
      <div class="save-bar">
        {(error ?? (text === undefined && read.problem)) && (
          <p class="note bad" role="alert">
            {error ?? read.problem}
          </p>
        )}
        <Button type="submit" kind="main" reason={reason ?? read.problem ?? (isChanged ? undefined : 'Nothing was changed.')}>
          Save
        </Button>
        <span class="spacer" />
        <Button kind="danger" onClick={remove} reason={reason ?? (isNone ? 'There is none.' : undefined)}>
          Remove
        </Button>
      </div>
    </form>
  );
}

/** What would be sent, or why it can't be. */
function readOf(form: IdentityForm, text: string | undefined): { identity?: Identity; problem?: string } {
  if (text !== undefined) {
    try {
      const identity = JSON.parse(text) as Identity;
      formOf(identity);
      return { identity };
    } catch (error) {
      return { problem: `This is not JSON of an identity: ${(error as Error).message}` };
    }
  }
  try {
    return { identity: identityOf(form) };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

interface SeveralProps<T> {
  title: string;
  one: string;
  help: string;
  items: readonly T[];
  fresh: T;
  reason: string | undefined;
  onChange: (items: readonly T[]) => void;
  fields: (item: T, change: (part: Partial<T>) => void) => preact.ComponentChildren;
}

function Several<T>({ title, one, help, items, fresh, reason, onChange, fields }: SeveralProps<T>) {
  return (
    <Panel
      title={title}
      actions={
        <Button label={`Add a ${one}`} reason={reason} onClick={() => onChange([...items, fresh])}>
          Add
        </Button>
      }
    >
      <p class="dim">{help}</p>
      {items.map((item, at) => (
        <fieldset key={at} aria-label={`${one} ${at + 1}`}>
          {fields(item, (part) => onChange(items.map((other, place) => (place === at ? { ...other, ...part } : other))))}
          <Button kind="quiet" reason={reason} onClick={() => onChange(items.filter((_, place) => place !== at))}>
            Remove {one} {at + 1}
          </Button>
        </fieldset>
      ))}
    </Panel>
  );
}

type Change<T> = { change: (part: Partial<T>) => void };

function ProviderFields({ issuer, audience, algorithms, leeway, source, jwks_url, public_key, secret, change }: ProviderForm & Change<ProviderForm>) {
  const toggle = (algorithm: Algorithm, on: boolean) => change({ algorithms: PUBLIC_KEY_ALGORITHMS.filter((it) => (it === algorithm ? on : algorithms.includes(it))) });
  const setSource = (next: KeySource) => change({ source: next, algorithms: next === 'secret' ? ['HS256'] : source === 'secret' ? ['RS256'] : algorithms });
  return (
    <>
      <TextField label="Issuer" value={issuer} onInput={(value) => change({ issuer: value })} help="What the claim `iss` must be, exactly. Empty: any." input={{ placeholder: 'https://login.example.com/' }} />
      <TextArea label="Audience" value={audience} rows={1} onInput={(value) => change({ audience: value })} help="The claim `aud` must contain one of these, one a line. Empty: any. Set it if the provider serves several applications." />
      <Select label="Keys" value={source} options={SOURCES} onChange={setSource} />
      {source === 'jwks_url' && (
        <TextField label="Address of the keys" value={jwks_url} onInput={(value) => change({ jwks_url: value })} help="Where the provider publishes its keys." input={{ type: 'url', required: true, placeholder: 'https://login.example.com/.well-known/jwks.json' }} />
      )}
      {source === 'public_key' && <TextArea label="Public key" value={public_key} rows={5} onInput={(value) => change({ public_key: value })} help="In PEM: it begins with -----BEGIN PUBLIC KEY-----." required />}
      {source === 'secret' &&
        (secret === KEPT ? (
          <p>
            A secret is set, and stays. <Button onClick={() => change({ secret: '' })}>Set another secret</Button>
          </p>
        ) : (
          <TextField label="Secret" value={secret} onInput={(value) => change({ secret: value })} help="Shared with the provider, 32 bytes or more. It is never shown again." input={{ type: 'password', autocomplete: 'new-password', required: true }} />
        ))}
      {source === 'secret' ? (
        <p class="dim">Tokens are signed with HS256.</p>
      ) : (
        <div class="row" role="group" aria-label="Algorithms">
          {PUBLIC_KEY_ALGORITHMS.map((algorithm) => (
            <Check key={algorithm} label={algorithm} checked={algorithms.includes(algorithm)} onChange={(on) => toggle(algorithm, on)} />
          ))}
        </div>
      )}
      <TextField label="Clock difference (seconds)" value={leeway} onInput={(value) => change({ leeway: value })} help="How far the provider’s clock may be off, at most 300. Empty: 30." input={{ inputMode: 'numeric', placeholder: '30' }} />
    </>
  );
}

const BY = [
  ['channels', 'a pattern'],
  ['channels_claim', 'a claim that lists channels'],
] as const;

function GrantFields({ by, channels, channels_claim, when, user_id, user_info, change }: GrantForm & Change<GrantForm>) {
  return (
    <>
      <Select label="Channels of" value={by} options={BY} onChange={(value) => change({ by: value })} />
      {by === 'channels' ? (
        <TextField
          label="Pattern"
          value={channels}
          onInput={(value) => change({ channels: value })}
          help="Begins with `private-` or `presence-`. `{sub}` is the value of that claim, and `*` is anything."
          input={{ required: true, placeholder: 'private-user-{sub}' }}
        />
      ) : (
        <TextField label="Claim" value={channels_claim} onInput={(value) => change({ channels_claim: value })} help="It lists names of channels, or patterns with stars." input={{ required: true, placeholder: 'channels' }} />
      )}
      <TextArea label="Only if" value={when} rows={1} onInput={(value) => change({ when: value })} help="Claims that must have a value or list it, one a line: `roles = admin`. Empty: always." />
      <details open={user_id !== 'sub' || user_info !== ''}>
        <summary>Members of presence channels</summary>
        <TextField label="Claim of the user id" value={user_id} onInput={(value) => change({ user_id: value })} input={{ required: true }} />
        <UserInfo value={user_info} onInput={(value) => change({ user_info: value })} />
      </details>
    </>
  );
}

function SignInFields({ id, user_info, watchlist, change }: SignInForm & Change<SignInForm>) {
  return (
    <>
      <TextField label="Claim of the user’s id" value={id} onInput={(value) => change({ id: value })} input={{ required: true }} />
      <UserInfo value={user_info} onInput={(value) => change({ user_info: value })} />
      <TextField label="Claim of the watchlist" value={watchlist} onInput={(value) => change({ watchlist: value })} help="It lists the ids of users that the user watches. Empty: none." />
    </>
  );
}

function UserInfo({ value, onInput }: { value: string; onInput: (value: string) => void }) {
  return <TextArea label="User info" value={value} rows={1} onInput={onInput} help="Names that others see, and the claims they come from, one a line: `name = given_name`." />;
}
