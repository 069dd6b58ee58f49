// Lists of the API, in pages.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { ApiError } from '../api/client';
import { Button } from './controls';
import { Empty, Failed, Loading, useResource } from './resource';

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  /** Numbers are aligned to the right. */
  number?: boolean;
}

/** A table that becomes a list of cards where the screen is narrow. The roles keep it a table to screen readers then. */
export function Table<T>({ rows, columns, label, rowKey }: { rows: readonly T[]; columns: readonly Column<T>[]; label: string; rowKey: (row: T) => string | number }) {
  return (
    <table role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map(({ name, number }) => (
            <th role="columnheader" key={name} scope="col" class={number ? 'number' : undefined}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr role="row" key={rowKey(row)}>
            {columns.map(({ name, cell, number }) => (
              <td role="cell" key={name} data-name={name} class={number ? 'number' : undefined}>
                {cell(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export interface PageOf<T> {
  items: T[];
  next_cursor?: string | null;
  /** Nodes whose part is missing. */
  unanswered?: string[];
}

export interface Pages<T> {
  items: T[] | undefined;
  unanswered: string[];
  error: ApiError | undefined;
  more: (() => Promise<void>) | undefined;
  reload: () => Promise<void>;
}

/** The pages of a list that were asked for so far. */
export function usePages<T>(load: (cursor: string | undefined) => Promise<PageOf<T>>, keys: readonly unknown[], every?: number): Pages<T> {
  const first = useResource(() => load(undefined), keys, every);
  const [rest, setRest] = useState<{ after: PageOf<T>; pages: PageOf<T>[] }>();
  const pages = first.value ? [first.value, ...(rest?.after === first.value ? rest.pages : [])] : [];
  const cursor = pages.at(-1)?.next_cursor;
  const more = async () => {
    const page = await load(cursor ?? undefined);
    if (first.value) setRest({ after: first.value, pages: [...pages.slice(1), page] });
  };
  return {
    items: first.value && pages.flatMap((page) => page.items),
    unanswered: [...new Set(pages.flatMap((page) => page.unanswered ?? []))],
    error: first.error,
    more: cursor ? more : undefined,
    reload: first.reload,
  };
}

export function Listing<T>({ pages, columns, label, rowKey, empty }: { pages: Pages<T>; columns: readonly Column<T>[]; label: string; rowKey: (row: T) => string | number; empty: ComponentChildren }) {
  const { items, unanswered, error, more, reload } = pages;
  if (!items) return error ? <Failed error={error} retry={reload} /> : <Loading />;
  return (
    <>
      {error && <Failed error={error} retry={reload} stale />}
      {unanswered.length > 0 && (
        <p class="note warn" role="alert">
          Without what these nodes have, which did not answer in time: {unanswered.join(', ')}
        </p>
      )}
      {items.length === 0 ? typeof empty === 'string' ? <Empty title={empty} /> : empty : <Table rows={items} columns={columns} label={label} rowKey={rowKey} />}
      {more && (
        <div class="more">
          <Button onClick={more}>Show more</Button>
        </div>
      )}
    </>
  );
}
