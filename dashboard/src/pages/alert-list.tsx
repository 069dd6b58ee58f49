import { api, take } from '../api/client';
import { Page, Panel } from '../ui/controls';
import { Empty, Loaded, useResource } from '../ui/resource';
import { AlertRows } from './alerts';

export function Alerts() {
  const alerts = useResource(() => take(api.GET('/api/v1/alerts')), [], 10_000);
  return (
    <Page title="Alerts" lead="What needs an operator, open alerts first. Each has the last occurrence of its kind and subject.">
      <Panel title="Alerts">
        <Loaded from={alerts}>{({ items }) => (items.length === 0 ? <Empty title="Nothing has needed an operator" /> : <AlertRows alerts={items} reload={alerts.reload} />)}</Loaded>
      </Panel>
    </Page>
  );
}
