import type { ComponentChildren } from 'preact';
import { narrow } from './narrow';

/** Fields of a search. On a narrow screen they are folded, so that they don't take the place of what is found. */
export function Filters({ set, children }: { set: number; children: ComponentChildren }) {
  const row = (
    <div class="row" role="search">
      {children}
    </div>
  );
  return narrow.value ? <Folded set={set}>{row}</Folded> : row;
}

export function Folded({ set, children }: { set: number; children: ComponentChildren }) {
  return (
    <details class="folded">
      <summary>Filters{set > 0 && ` (${set} set)`}</summary>
      {children}
    </details>
  );
}
