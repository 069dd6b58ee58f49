// Rates from totals that only grow.
export interface Sample {
  at: number;
  totals: Readonly<Record<string, number>>;
}

/** What was added a second between two looks. A total that fell belongs to a process that was started again, so all of it is new. */
export function ratesBetween(before: Sample, now: Sample): Record<string, number> {
  const seconds = (now.at - before.at) / 1000;
  const rates: Record<string, number> = {};
  for (const [name, total] of Object.entries(now.totals)) {
    const old = before.totals[name] ?? total;
    rates[name] = seconds > 0 ? (total >= old ? total - old : total) / seconds : 0;
  }
  return rates;
}
