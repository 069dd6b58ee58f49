import { api, BASE, type Schemas, take } from '../api/client';
import { href, queryText, route, setQuery } from '../router';
import { whyNot } from '../session';
import { Code, Page, Panel, TextField, Time } from '../ui/controls';
import { Empty } from '../ui/resource';
import { useSettled } from '../ui/settled';
import { Listing, usePages } from '../ui/table';

const FILTERS = [
  ['action', 'Action', 'key.revoke'],
  ['app_id', 'App id', ''],
  ['actor_id', 'Operator or token id', ''],
  ['target_id', 'Target id', ''],
] as const;

export function Audit() {
  const reason = whyNot('some-admin');
  if (reason) {
    return (
      <Page title="Audit log">
        <Empty title="You may not read the audit log">{reason}</Empty>
      </Page>
    );
  }
  return <Log />;
}

function Log() {
  const { query } = route.value;
  const filters: Record<string, string | number> = {};
  for (const [name] of FILTERS) {
    const value = query.get(name);
    if (value) filters[name] = value;
  }
  for (const name of ['since', 'until']) {
    const at = Date.parse(query.get(name) ?? '');
    if (!Number.isNaN(at)) filters[name] = at;
  }
  const key = useSettled(JSON.stringify(filters));
  const pages = usePages((cursor) => take(api.GET('/api/v1/audit', { params: { query: { ...(JSON.parse(key) as object), ...(cursor ? { cursor } : {}) } } })), [key]);
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
      <div class="row" role="search">
        {FILTERS.map(([name, label, placeholder]) => (
          <TextField key={name} label={label} value={query.get(name) ?? ''} onInput={(value) => setQuery({ [name]: value })} input={{ placeholder }} />
        ))}
        <TextField label="From" value={query.get('since') ?? ''} onInput={(value) => setQuery({ since: value })} input={{ type: 'datetime-local' }} />
        <TextField label="Until" value={query.get('until') ?? ''} onInput={(value) => setQuery({ until: value })} input={{ type: 'datetime-local' }} />
      </div>
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

function Actor({ actor }: Schemas['AuditEntry']) {
  return (
    <>
      {actor.name} <span class="dim">{actor.kind.replace('_', ' ')}</span>
      {actor.address && <div class="dim">from {actor.address}</div>}
    </>
  );
}
