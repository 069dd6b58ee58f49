// The rows of a feed. Only those that are visible are in the document.
//
// Every row has the same height, so where a row is follows from its number. A general library (@tanstack/virtual-core) would measure
// all rows again with each frame, and is 8 KB of the first page.
import { useEffect, useReducer, useRef } from 'preact/hooks';
import { clock, count, utc } from '../format';
import type { Feed } from './feed';
import { narrow } from '../ui/narrow';
import { KIND_TITLES, type LiveLine, type Row, summary } from './line';

const ROW_HEIGHT = 28;
/** Of rows with two lines of text. */
const NARROW_ROW_HEIGHT = 46;
const OVERSCAN = 8;

/** The numbers of the rows that are visible, and some around them. */
export function visibleRows(scrollTop: number, height: number, total: number, rowHeight: number): { from: number; to: number } {
  const from = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN);
  return { from, to: Math.min(total, Math.ceil((scrollTop + height) / rowHeight) + OVERSCAN) };
}

export function ConsoleList({ feed, selected, onSelect }: { feed: Feed; selected: string | undefined; onSelect: (line: LiveLine) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef({ top: 0, height: 600 });
  const [, redraw] = useReducer((turn: number, _: void) => turn + 1, 0);
  const seen = useRef(feed.added);
  const version = feed.version.value;
  const total = feed.rows.length;
  const rowHeight = narrow.value ? NARROW_ROW_HEIGHT : ROW_HEIGHT;

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () => {
      view.current = { top: element.scrollTop, height: element.clientHeight };
      redraw();
    };
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    element.addEventListener('scroll', look, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener('scroll', look);
    };
  }, []);
  useEffect(() => {
    // New rows come on top. Whoever reads further down keeps what they read in place.
    const added = feed.added - seen.current;
    seen.current = feed.added;
    const element = box.current;
    if (element && added > 0 && view.current.top > 0) element.scrollTop += added * rowHeight;
  }, [version, feed]);

  const key = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    let at = step > 0 ? 0 : -1;
    for (let index = 0; selected !== undefined && index < total; index += 1) {
      if (isSelected(feed.rows.at(index), selected)) at = index + step;
    }
    while (at >= 0 && at < total && feed.rows.at(at)?.at !== 'line') at += step;
    const row = feed.rows.at(at);
    if (row?.at !== 'line') return;
    onSelect(row.line);
    const { top, height } = view.current;
    const place = at * rowHeight;
    if (box.current && (place < top || place + rowHeight > top + height)) box.current.scrollTop = place - height / 2;
  };

  const { from, to } = visibleRows(view.current.top, view.current.height, total, rowHeight);
  const rows = [];
  let active: string | undefined;
  for (let index = from; index < to; index += 1) {
    const row = feed.rows.at(index);
    if (!row) continue;
    const chosen = isSelected(row, selected);
    if (chosen) active = `line-${selected}`;
    rows.push(<ConsoleRow key={row.at === 'line' ? row.line.id : row.key} row={row} top={index * rowHeight} chosen={chosen} onSelect={onSelect} />);
  }
  return (
    <div ref={box} class="lines" role="listbox" aria-label="Live events, newest first" aria-activedescendant={active} tabIndex={0} onKeyDown={key}>
      <div role="presentation" style={{ height: `${total * rowHeight}px` }}>
        {rows}
      </div>
    </div>
  );
}

function isSelected(row: Row | undefined, selected: string | undefined): boolean {
  return row?.at === 'line' && row.line.id === selected;
}

function ConsoleRow({ row, top, chosen, onSelect }: { row: Row; top: number; chosen: boolean; onSelect: (line: LiveLine) => void }) {
  const style = { transform: `translateY(${top}px)` };
  if (row.at === 'more') {
    return (
      <div class="line left-out" role="option" aria-selected="false" style={style}>
        {count(row.count)} more {row.because === 'rate' ? 'matched, beyond the speed that is set' : 'came while this was paused'}
      </div>
    );
  }
  const { line } = row;
  return (
    <div class="line" id={`line-${line.id}`} role="option" aria-selected={chosen} style={style} onClick={() => onSelect(line)}>
      <time dateTime={new Date(line.time_ms).toISOString()} title={utc(line.time_ms)}>
        {clock(line.time_ms, true)}
      </time>
      <span class={`kind ${line.kind}`}>{KIND_TITLES[line.kind] ?? line.kind}</span>
      <span class="channel">{line.channel}</span>
      <span class="rest">{summary(line).slice(0, 300)}</span>
    </div>
  );
}
