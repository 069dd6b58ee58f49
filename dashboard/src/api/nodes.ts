// Nodes, and what their totals say between two looks.
import { api, ApiError, type Schemas, take } from './client';

export type Node = Schemas['Node'];

/** The nodes, and when they were asked. */
export type NodeList = Schemas['Nodes'] & { at: number };

export async function loadNodes(): Promise<NodeList> {
  return { ...(await take(api.GET('/api/v1/nodes'))), at: Date.now() };
}

/** The same, or `undefined` for those who may not see it. */
export async function loadNodesIfAllowed(): Promise<NodeList | undefined> {
  return loadNodes().catch((error) => {
    if (error instanceof ApiError && (error.status === 403 || error.status === 404)) return undefined;
    throw error;
  });
}

export const NODE_TOTALS = ['messages_received', 'events_published', 'deliveries', 'refusals', 'cpu_seconds'] as const;

export function totalsOf(node: Node): Record<string, number> {
  return Object.fromEntries(NODE_TOTALS.map((name) => [name, node[name] ?? 0]));
}
