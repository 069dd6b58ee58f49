// uPlot with the colours of the page.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { count } from '../format';
import type { Line } from './chart';

interface Content {
  times: readonly number[];
  lines: readonly Line[];
  onZoom?: ((from: number, to: number) => void) | undefined;
}

const COLOURS = { light: ['#b8341d', '#0b6bcb', '#1a7f45', '#8250df'], dark: ['#ff8a70', '#6cb6ff', '#57c785', '#c297ff'] };

// Rows of uPlot: seconds between two ticks, their text, and what is added where a year, a day or a minute begins.
const TIMES: uPlot.Axis.Values = [
  [86_400, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
  [60, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
  [1, ':{ss}', '\n{YYYY}-{MM}-{DD} {HH}:{mm}', null, '\n{MM}-{DD} {HH}:{mm}', null, '\n{HH}:{mm}', null, 1],
];

/** Small values keep their fraction, so that no two ticks look alike. */
function tick(value: number): string {
  return Math.abs(value) < 10 ? String(Number(value.toFixed(2))) : count(value);
}

export function plot(box: HTMLElement, content: Content, height: number, dark: boolean) {
  let shown = content;
  const colours = dark ? COLOURS.dark : COLOURS.light;
  const axis = { stroke: dark ? '#a5adb8' : '#57606a', grid: { stroke: dark ? '#2b313a' : '#e4e7eb', width: 1 }, ticks: { show: false } };
  const chart = new uPlot(
    {
      width: width(box),
      height,
      cursor: { drag: { x: !!content.onZoom, y: false }, points: { size: 6 } },
      select: { show: true, left: 0, top: 0, width: 0, height: 0 },
      scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.08, 1)] } },
      axes: [{ ...axis, space: 70, values: TIMES }, { ...axis, size: 56, values: (_, values) => values.map(tick) }],
      series: [
        { value: '{YYYY}-{MM}-{DD} {HH}:{mm}' },
        ...content.lines.map(({ name, format = count }, at) => ({
          label: name,
          stroke: colours[at % colours.length] as string,
          width: 1.5,
          fill: at === 0 && content.lines.length === 1 ? `${colours[0]}22` : undefined!,
          value: (_: uPlot, value: number | null) => (value === null ? '' : format(value)),
          points: { show: false },
        })),
      ],
      hooks: {
        setSelect: [
          (self) => {
            const { left, width: wide } = self.select;
            if (wide < 8 || !shown.onZoom) return;
            shown.onZoom(self.posToVal(left, 'x') * 1000, self.posToVal(left + wide, 'x') * 1000);
          },
        ],
      },
    },
    columns(content),
    box,
  );
  const sizes = new ResizeObserver(() => chart.setSize({ width: width(box), height }));
  sizes.observe(box);
  return {
    draw(next: Content) {
      shown = next;
      chart.setData(columns(next));
    },
    destroy() {
      sizes.disconnect();
      chart.destroy();
    },
  };
}

function width(box: HTMLElement): number {
  return Math.max(box.clientWidth, 200);
}

function columns({ times, lines }: Content): uPlot.AlignedData {
  return [times.map((time) => time / 1000), ...lines.map(({ values }) => [...values])];
}
