import { useRef } from 'preact/hooks';
import { api, BASE, type Schemas, take } from '../api/client';
import { AUDIT_ACTIONS } from '../api/facts';
import { apps, APPS_KNOWN } from '../apps';
import { href, queryText, route, setQuery } from '../router';
import { whyNot } from '../session';
import { Code, Page, Panel, Select, TextField, Time } from '../ui/controls';
import { Filters } from '../ui/filters';
import { useResource } from '../ui/resource';
import { useSettled } from '../ui/settled';
import { Listing, usePages } from '../ui/table';

const ACTIONS = [['', 'all'], ...AUDIT_ACTIONS.map((action) => [action, action] as const)] as const;
const TEXTS = ['action', 'app_id', 'actor_id', 'target_id'] as const;

export function Audit() {
  const { query } = route.value;
  const filters: Record<string, string | number> = {};
  for (const name of TEXTS) {
    const value = query.get(name);
    if (value) filters[name] = value;
  }
  for (const name of ['since', 'until']) {
    const at = Date.parse(query.get(name) ?? '');
    if (!Number.isNaN(at)) filters[name] = at;
  }
  const key = useSettled(JSON.stringify(filters));
  const pages = usePages((cursor) => take(api.GET('/api/v1/audit', { params: { query: { ...(JSON.parse(key) as object), ...(cursor ? { cursor } : {}) } } })), [key]);
  const actors = useActors(pages.items);
  const text = (name: string) => query.get(name) ?? '';
  return (
    <Page
      title="Audit log"
      lead="Every change: who made it, from where, and what was different before. Nothing changes or deletes an entry."
      actions={
        <a class="button" href={`${BASE}/api/v1/audit/export?${queryText(filters)}`} download="audit.jsonl">
          Export
        </a>
      }
    >
      <Filters set={Object.keys(filters).length}>
        <Select label="Action" value={text('action')} options={ACTIONS} onChange={(action) => setQuery({ action })} />
        {apps.value.length < APPS_KNOWN ? (
          <Select label="App" value={text('app_id')} options={withChosen(text('app_id'), [['', 'all'], ...apps.value.map(({ id, name }) => [id, name] as const)])} onChange={(app_id) => setQuery({ app_id })} />
        ) : (
          <TextField label="App id" value={text('app_id')} onInput={(app_id) => setQuery({ app_id })} />
        )}
        <Select label="Who" value={text('actor_id')} options={withChosen(text('actor_id'), [['', 'all'], ...actors])} onChange={(actor_id) => setQuery({ actor_id })} />
        <TextField label="Target id" value={text('target_id')} onInput={(target_id) => setQuery({ target_id })} />
        <TextField
          label="From"
          value={text('since')}
          onInput={(since) => setQuery({ since })}
          error={Number(filters.since) > Date.now() ? 'This time is still to come.' : undefined}
          input={{ type: 'datetime-local' }}
        />
        <TextField label="Until" value={text('until')} onInput={(until) => setQuery({ until })} error={Number(filters.until) <= Number(filters.since) ? 'This is before “From”.' : undefined} input={{ type: 'datetime-local' }} />
      </Filters>
      <Panel title="Entries, newest first">
        <Listing
          pages={pages}
          label="Audit log"
          rowKey={({ id }) => id}
          empty="No entry matches."
          columns={[
            { name: 'When', cell: ({ at }) => <Time at={at} /> },
            { name: 'Who', cell: Actor },
            { name: 'Action', cell: ({ action }) => <code>{action}</code> },
            { name: 'App', cell: ({ app_id }) => (app_id ? <a href={href(['apps', app_id])}>{app_id}</a> : '–') },
            { name: 'Target', cell: ({ target_kind, target_id }) => `${target_kind} ${target_id}` },
            {
              name: 'Details',
              cell: ({ details, action, id }) =>
                Object.keys(details).length === 0 ? (
                  '–'
                ) : (
                  <details>
                    <summary>
                      Details<span class="hidden"> of entry {id}</span>
                    </summary>
                    <Code text={JSON.stringify(details, null, 2)} what={`the details of ${action}`} />
                  </details>
                ),
            },
          ]}
        />
      </Panel>
    </Page>
  );
}

/** Operators and tokens by name: those that the caller may list, and those of entries that were shown. */
function useActors(shown: readonly Schemas['AuditEntry'][] | undefined): readonly (readonly [string, string])[] {
  const listed = useResource(async () => {
    const query = { limit: 200 };
    const [operators, tokens] = await Promise.all([whyNot('owner') ? undefined : take(api.GET('/api/v1/operators', { params: { query } })), take(api.GET('/api/v1/tokens', { params: { query } }))]);
    return [...(operators?.items ?? []), ...tokens.items.map(({ id, name }) => ({ id, name: `${name} (token)` }))];
  }, []);
  const seen = useRef(new Map<string, string>());
  for (const { actor } of shown ?? []) if (actor.id) seen.current.set(actor.id, actor.kind === 'token' ? `${actor.name} (token)` : actor.name);
  for (const { id, name } of listed.value ?? []) seen.current.set(id, name);
  return [...seen.current].sort(([, one], [, other]) => one.localeCompare(other));
}

/** The options, and what an address chose that isn't one of them. */
function withChosen(chosen: string, options: readonly (readonly [string, string])[]): readonly (readonly [string, string])[] {
  return options.some(([value]) => value === chosen) ? options : [...options, [chosen, chosen]];
}

function Actor({ actor }: Schemas['AuditEntry']) {
  return (
    <>
      {actor.name} <span class="dim">{actor.kind.replace('_', ' ')}</span>
      {actor.address && <div class="dim">from {actor.address}</div>}
    </>
  );
}
