import { api, take } from '../api/client';
import { SERVER_SETTINGS } from '../api/server-settings';
import { route, setQuery } from '../router';
import { Badge, Check, Copy, Page, Panel, Prose, TextField } from '../ui/controls';
import { Empty, Loaded, useResource } from '../ui/resource';
import { Table } from '../ui/table';

export function Configuration() {
  const found = useResource(() => take(api.GET('/api/v1/configuration')), []);
  const { query } = route.value;
  const text = (query.get('text') ?? '').toLowerCase();
  const onlyOwn = query.get('own') === '1';
  return (
    <Page title="Configuration" lead="What is active on the node that answers you, and where each value came from. Secrets are never shown.">
      <div class="row" role="search">
        <TextField label="Contains" value={query.get('text') ?? ''} onInput={(value) => setQuery({ text: value })} input={{ placeholder: 'memory' }} />
        <Check label="Only what is not the default" checked={onlyOwn} onChange={(on) => setQuery({ own: on ? '1' : '' })} />
      </div>
      <Panel title="Settings">
        <Loaded from={found}>
          {({ settings }) => {
            const rows = settings.filter((it) => (!onlyOwn || !it.is_default) && `${it.name} ${it.source} ${shown(it.value)} ${SERVER_SETTINGS[it.name]}`.toLowerCase().includes(text));
            if (rows.length === 0) return <Empty title={onlyOwn ? 'Everything has its default' : 'No setting has this text'} />;
            return (
              <Table
                label="Settings"
                rows={rows}
                rowKey={({ name }) => name}
                columns={[
                  {
                    name: 'Setting',
                    cell: ({ name }) => (
                      <>
                        <code>{name}</code> <Copy text={name} what={`the name ${name}`} />
                        <div class="help">
                          <Prose text={SERVER_SETTINGS[name] ?? ''} />
                        </div>
                      </>
                    ),
                  },
                  { name: 'Value', cell: ({ value, is_secret }) => (is_secret ? <Badge>{value ? 'set, secret' : 'not set'}</Badge> : <code>{shown(value)}</code>) },
                  { name: 'Source', cell: ({ source, is_default }) => <Badge kind={is_default ? 'plain' : 'good'}>{source}</Badge> },
                  { name: 'Default', cell: (it) => (it.is_secret ? '–' : <code>{shown(it.default)}</code>) },
                ]}
              />
            );
          }}
        </Loaded>
      </Panel>
    </Page>
  );
}

function shown(value: unknown): string {
  if (value === null || value === undefined || value === '') return 'none';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
