import { useRef, useState } from 'preact/hooks';
import { api, take } from '../api/client';
import { loadNodes, type Node, type NodeList, totalsOf } from '../api/nodes';
import { bytes, count, duration, rate } from '../format';
import { ratesBetween } from '../rates';
import { whyNot } from '../session';
import { Button, Page, Panel, Time } from '../ui/controls';
import { ask } from '../ui/dialog';
import { Loaded, useResource } from '../ui/resource';
import { Table } from '../ui/table';
import { toast } from '../ui/toast';
import { NodeState } from './overview';

const EVERY_MS = 2_000;

/** Why a node can't be drained, if no other takes its clients. */
function alone(node: Node, nodes: readonly Node[]): string | undefined {
  const others = nodes.some(({ name, state }) => name !== node.name && state === 'ready');
  return others ? undefined : 'No other node is ready to take its clients.';
}

export function Nodes() {
  const before = useRef<NodeList | undefined>(undefined);
  const [rates, setRates] = useState<Record<string, Record<string, number>>>({});
  const nodes = useResource(
    async () => {
      const list = await loadNodes();
      const old = before.current;
      before.current = list;
      if (old) setRates(ratesOf(old, list));
      return list;
    },
    [],
    EVERY_MS,
  );
  const reason = whyNot('admin-of-all');
  const drain = async (name: string, on: boolean) => {
    const params = { path: { name } };
    await take(on ? api.POST('/api/v1/nodes/{name}/drain', { params }) : api.DELETE('/api/v1/nodes/{name}/drain', { params }));
    await nodes.reload();
  };
  const askToDrain = (node: Node) =>
    ask({
      title: `Drain the node ${node.name}?`,
      body: (
        <p>
          Its {count(node.connections)} connections move to other nodes, and load balancers stop sending to it. The process goes on; “Take back” lets it accept connections again.
        </p>
      ),
      action: 'Drain',
      run: async () => {
        await drain(node.name, true);
        toast(`${node.name} is draining.`, { undo: () => drain(node.name, false) });
      },
    });
  return (
    <Page title="Nodes" lead="The running processes of this installation, as the node that you are connected to sees them.">
      <Panel title="Nodes">
        <Loaded from={nodes}>
          {(list) => (
            <>
              {list.unanswered.length > 0 && (
                <p class="note warn" role="alert">
                  Did not answer in time: {list.unanswered.join(', ')}
                </p>
              )}
              <Table
                label="Nodes"
                rows={list.nodes}
                rowKey={({ name }) => name}
                columns={[
                  {
                    name: 'Node',
                    cell: ({ name, is_answering_node }) => (
                      <>
                        {name} {is_answering_node && <span class="dim">(answers you)</span>}
                      </>
                    ),
                  },
                  { name: 'State', cell: (node) => <NodeState node={node} /> },
                  { name: 'Version', cell: ({ version }) => version },
                  {
                    name: 'Up',
                    cell: ({ started_at }) => (
                      <span>
                        {duration(Date.now() - started_at)} <span class="dim">since <Time at={started_at} /></span>
                      </span>
                    ),
                  },
                  { name: 'Connections', number: true, cell: ({ connections }) => count(connections) },
                  { name: 'Messages/s', number: true, cell: ({ name }) => shown(rates[name], ['messages_received', 'events_published']) },
                  { name: 'Deliveries/s', number: true, cell: ({ name }) => shown(rates[name], ['deliveries']) },
                  { name: 'Refusals/s', number: true, cell: ({ name }) => shown(rates[name], ['refusals']) },
                  { name: 'CPU', number: true, cell: ({ name }) => (!rates[name] ? '–' : `${Math.round((rates[name]?.cpu_seconds ?? 0) * 100)} %`) },
                  { name: 'Memory', number: true, cell: ({ memory_bytes }) => bytes(memory_bytes) },
                  {
                    name: 'Actions',
                    cell: (node) =>
                      node.state === 'draining' ? (
                        <Button label={`Take back the drain of ${node.name}`} reason={reason} onClick={() => drain(node.name, false)}>
                          Take back
                        </Button>
                      ) : (
                        <Button label={`Drain ${node.name}`} reason={reason ?? alone(node, list.nodes)} onClick={() => askToDrain(node)}>
                          Drain
                        </Button>
                      ),
                  },
                ]}
              />
            </>
          )}
        </Loaded>
      </Panel>
    </Page>
  );
}

function ratesOf(before: NodeList, now: NodeList): Record<string, Record<string, number>> {
  const rates: Record<string, Record<string, number>> = {};
  for (const node of now.nodes) {
    const old = before.nodes.find(({ name }) => name === node.name);
    if (old) rates[node.name] = ratesBetween({ at: before.at, totals: totalsOf(old) }, { at: now.at, totals: totalsOf(node) });
  }
  return rates;
}

function shown(rates: Record<string, number> | undefined, names: string[]): string {
  return rates ? rate(names.reduce((sum, name) => sum + (rates[name] ?? 0), 0)) : '–';
}
