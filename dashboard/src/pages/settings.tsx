import { useEffect, useRef, useState } from 'preact/hooks';
import { api, type Schemas, take, takeWithTag } from '../api/client';
import { loadApps } from '../apps';
import { FACTS } from '../api/facts';
import { bytes, duration, exactly } from '../format';
import { go, href } from '../router';
import { whyNot } from '../session';
import { changes, type Form, formOf, problemOf } from '../settings-form';
import { Button, Check, Field, Page, Panel, TextField } from '../ui/controls';
import { ask } from '../ui/dialog';
import { Loaded, useResource } from '../ui/resource';
import { toast } from '../ui/toast';

type Tagged = { value: Schemas['App']; tag: string };

export function Settings({ appId }: { appId: string }) {
  const app = useResource(() => takeWithTag(api.GET('/api/v1/apps/{app_id}', { params: { path: { app_id: appId } } })), [appId]);
  return (
    <Page title="Settings" lead="A change is active on every node within a second. Open connections keep what they were admitted with.">
      <Loaded from={app}>{(tagged) => <Editor key={tagged.tag} tagged={tagged} put={app.put} />}</Loaded>
    </Page>
  );
}

async function patch(id: string, body: Schemas['UpdateApp'], tag?: string): Promise<Tagged> {
  const saved = await takeWithTag(
    api.PATCH('/api/v1/apps/{app_id}', { params: { path: { app_id: id }, ...(tag ? { header: { 'if-match': tag } } : {}) }, body }),
  );
  loadApps().catch(() => {});
  return saved;
}

function Editor({ tagged, put }: { tagged: Tagged; put: (tagged: Tagged) => void }) {
  const app = tagged.value;
  const [form, setForm] = useState<Form>(() => formOf(app));
  const [error, setError] = useState<string>();
  const reason = whyNot('app-admin');
  const ofSome = reason ?? whyNot('admin-of-all');
  const body = changes(formOf(app), form);
  const count = Object.keys(body.settings ?? {}).length + (body.name === undefined ? 0 : 1);
  const invalid = problemOf(form);
  const unsaved = useRef(0);
  unsaved.current = count;
  useEffect(
    () => () => {
      if (unsaved.current > 0) toast(`Changes of the settings of ${app.name} were not saved.`, { bad: true });
    },
    [],
  );
  const set = (part: Partial<Form>) => setForm({ ...form, ...part });
  const save = async () => {
    setError(undefined);
    try {
      const saved = await patch(app.id, body, tagged.tag);
      put(saved);
      toast(`Saved the settings of ${saved.value.name}.`, { undo: async () => put(await patch(app.id, changes(formOf(saved.value), formOf(app)), saved.tag)) });
    } catch (failure) {
      setError((failure as Error).message);
    }
  };
  const remove = () =>
    ask({
      title: `Delete the app ${app.name}?`,
      body: <p>Its keys, webhooks and settings are deleted, and its connections are closed. This can’t be undone.</p>,
      action: 'Delete the app',
      typed: app.name,
      run: async () => {
        await take(api.DELETE('/api/v1/apps/{app_id}', { params: { path: { app_id: app.id }, query: { confirm: app.name } } }));
        unsaved.current = 0;
        await loadApps();
        toast(`Deleted ${app.name}.`);
        go(href(['apps']));
      },
    });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (!reason && !invalid && count > 0) void save();
      }}
    >
      <div class="two">
        <Panel title="General">
          <TextField label="Name" value={form.name} onInput={(name) => set({ name })} input={{ required: true, maxlength: 200, disabled: !!reason }} />
          {Object.entries(FACTS.settings).map(([name, { description }]) => (
            <Check
              key={name}
              label={titleOf(name)}
              checked={form.flags[name] ?? false}
              onChange={(on) => set({ flags: { ...form.flags, [name]: on } })}
              help={description}
              reason={reason && `${description} ${reason}`}
            />
          ))}
          <Field
            label="Public channels with client events"
            help="One channel or pattern a line, for example “chat-*”. Clients may send events there if client events are on. Anyone may subscribe to a public channel, so anyone may write there."
          >
            {(props) => (
              <textarea {...props} rows={3} disabled={!!reason} value={form.clientEventChannels} onInput={(event) => set({ clientEventChannels: event.currentTarget.value })} />
            )}
          </Field>
          <Field
            label="Broadcast channels of Socket.IO"
            help="One public channel a line, at most 10. Every client of Socket.IO joins them, and what it emits without naming a channel goes to them, if client events are on."
          >
            {(props) => (
              <textarea {...props} rows={2} disabled={!!reason} value={form.socketIoBroadcast} onInput={(event) => set({ socketIoBroadcast: event.currentTarget.value })} />
            )}
          </Field>
          <Field label="Allowed origins" help="One a line, for example https://example.com or https://*.example.com. Empty: any. Clients that are no browsers send none and are admitted.">
            {(props) => <textarea {...props} rows={3} disabled={!!reason} value={form.origins} onInput={(event) => set({ origins: event.currentTarget.value })} />}
          </Field>
          <Field
            label="Histories"
            help="One rule a line: a channel or a pattern, the number of events, and how long they are kept in seconds, for example “room-* 100 3600”. The first rule that matches a channel applies."
          >
            {(props) => <textarea {...props} rows={4} disabled={!!reason} value={form.history} onInput={(event) => set({ history: event.currentTarget.value })} />}
          </Field>
        </Panel>
        <div>
          <Panel title="Quotas">
            <p class="dim">0 is no quota. They count days and months of UTC. {ofSome && `Only admins of all apps change them. ${ofSome}`}</p>
            <Numbers facts={FACTS.quotas} values={form.quotas} onInput={(quotas) => set({ quotas })} reason={ofSome} most={undefined} />
          </Panel>
          <Panel title="Limits">
            {!reason && ofSome && <p class="dim">You may lower these. {ofSome}</p>}
            <Numbers facts={FACTS.limits} values={form.limits} onInput={(limits) => set({ limits })} reason={reason} most={ofSome ? app.settings.limits : undefined} />
          </Panel>
        </div>
      </div>
      <div class="save-bar">
        {error && (
          <p class="note bad" role="alert">
            {error}
          </p>
        )}
        {invalid && <p class="note bad">{invalid}</p>}
        <Button type="submit" kind="main" reason={reason ?? invalid ?? (count === 0 ? 'Nothing was changed.' : undefined)}>
          {count > 0 ? `Save ${count === 1 ? 'one change' : `${count} changes`}` : 'Save'}
        </Button>
        {count > 0 && <Button onClick={() => setForm(formOf(app))}>Take back</Button>}
        <span class="spacer" />
        <Button kind="danger" reason={ofSome} onClick={remove}>
          Delete the app
        </Button>
      </div>
    </form>
  );
}

type Fact = { description: string; default: number | boolean; minimum?: number; maximum?: number };

function Numbers({ facts, values, onInput, reason, most }: { facts: Record<string, Fact>; values: Record<string, string>; onInput: (values: Record<string, string>) => void; reason: string | undefined; most: Record<string, number> | undefined }) {
  return (
    <>
      {Object.entries(facts).map(([name, fact]) => {
        const maximum = most?.[name] ?? fact.maximum;
        const bounds = `${exactly(fact.minimum ?? 0)} to ${exactly(maximum ?? 0)}; by default ${exactly(Number(fact.default))}.`;
        return (
          <TextField
            key={name}
            label={`${titleOf(name)}${inWords(name, values[name])}`}
            value={values[name] ?? ''}
            onInput={(value) => onInput({ ...values, [name]: value })}
            help={`${fact.description} ${bounds}`}
            input={{ type: 'number', min: fact.minimum, max: maximum, step: 1, required: true, disabled: !!reason }}
          />
        );
      })}
    </>
  );
}

function titleOf(name: string): string {
  const words = name.replaceAll('_', ' ').replace('tls', 'TLS');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A size or a time, so that no zeros need be counted. */
function inWords(name: string, value: string | undefined): string {
  const number = Number(value);
  if (!value || number === 0) return '';
  if (/bytes/.test(name)) return ` (${bytes(number)})`;
  return /ttl/.test(name) ? ` (${duration(number * 1000)})` : '';
}

