// Numbers, times and sizes for people.

const COUNT = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export function count(value: number): string {
  return Math.abs(value) < 100_000 ? COUNT.format(value) : COMPACT.format(value);
}

/** Every digit. */
export function exactly(value: number): string {
  return COUNT.format(value);
}

export function rate(value: number): string {
  if (value === 0) return '0';
  return value < 10 ? value.toFixed(1) : count(value);
}

export function bytes(value: number): string {
  let rest = value;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (Math.abs(rest) < 1024) return `${unit === 'B' || rest >= 100 ? Math.round(rest) : rest.toFixed(1)} ${unit}`;
    rest /= 1024;
  }
  return `${rest.toFixed(1)} TiB`;
}

/** A duration of milliseconds, in its two largest units. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${seconds} s`;
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(' ');
}

export function ago(ms: number, now = Date.now()): string {
  const past = now - ms;
  if (Math.abs(past) < 1000) return 'now';
  return past > 0 ? `${duration(past)} ago` : `in ${duration(-past)}`;
}

const pad = (value: number, digits = 2) => String(value).padStart(digits, '0');

/** A day and a time of the viewer's zone. */
export function localTime(ms: number): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(ms)}`;
}

export function clock(ms: number, fraction = false): string {
  const at = new Date(ms);
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return fraction ? `${time}.${pad(at.getMilliseconds(), 3)}` : time;
}

/** The same moment in UTC, for the hover text. */
export function utc(ms: number): string {
  return `${new Date(ms).toISOString().replace('T', ' ').replace('Z', '')} UTC`;
}

/** JSON with line breaks; other text stays as it is. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
