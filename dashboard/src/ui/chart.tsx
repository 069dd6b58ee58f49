// Charts over time. The library is loaded with the first of them.
import { useEffect, useRef, useState } from 'preact/hooks';
import { count, localTime } from '../format';
import { isDark, scheme } from '../theme';

export interface Line {
  name: string;
  values: readonly (number | null)[];
  format?: (value: number) => string;
}

type Props = {
  title: string;
  /** Milliseconds. */
  times: readonly number[];
  lines: readonly Line[];
  /** A range was drawn with the pointer. */
  onZoom?: ((from: number, to: number) => void) | undefined;
};

const HEIGHT = 160;

export function Chart({ title, times, lines, onZoom }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [failed, setFailed] = useState(false);
  const dark = isDark();
  const drawn = useRef<{ draw: (props: Props) => void; destroy: () => void } | undefined>(undefined);
  const newest = useRef<Props>({ title, times, lines, onZoom });
  newest.current = { title, times, lines, onZoom };
  useEffect(() => {
    let gone = false;
    import('./plot').then(
      ({ plot }) => {
        if (gone || !box.current) return;
        drawn.current = plot(box.current, newest.current, HEIGHT, dark);
      },
      () => setFailed(true),
    );
    return () => {
      gone = true;
      drawn.current?.destroy();
      drawn.current = undefined;
    };
  }, [dark, scheme.value, lines.map(({ name }) => name).join()]);
  useEffect(() => drawn.current?.draw(newest.current), [times, lines]);
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={box} role="img" aria-label={spoken(title, times, lines)} />
      {failed && <p class="bad">The chart could not be loaded; reload the page.</p>}
    </figure>
  );
}

/** What the chart shows, for those who don't see it. */
export function spoken(title: string, times: readonly number[], lines: readonly Line[]): string {
  const [first, last] = [times[0], times.at(-1)];
  if (first === undefined || last === undefined) return `${title}: no values`;
  const parts = lines.map(({ name, values, format = count }) => {
    const known = values.filter((value): value is number => value !== null);
    return known.length === 0 ? `${name}: none` : `${name}: now ${format(known.at(-1) as number)}, at most ${format(known.reduce((a, b) => Math.max(a, b)))}`;
  });
  return `${title} from ${localTime(first)} to ${localTime(last)}. ${parts.join('; ')}`;
}
