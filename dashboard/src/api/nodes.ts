// Nodes, as `GET /api/v1/nodes` describes them.
import { ApiError, requestJson } from './client';

export interface Node {
  name: string;
  is_answering_node: boolean;
  version: string;
  state: 'ready' | 'draining' | 'not_ready';
  reason: string | null;
  started_at: number;
  connections: number;
  messages_received: number;
  events_published: number;
  deliveries: number;
  refusals: number;
  memory_bytes: number | null;
  cpu_seconds: number | null;
  shards: number;
  address?: string | null;
}

export interface NodeList {
  nodes: Node[];
  unanswered: string[];
  at: number;
}

export async function loadNodes(): Promise<NodeList> {
  const list = await requestJson<Omit<NodeList, 'at'>>('/api/v1/nodes');
  return { ...list, at: Date.now() };
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
