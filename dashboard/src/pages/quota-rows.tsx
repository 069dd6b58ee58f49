import type { Schemas } from '../api/client';
import { bytes, exactly } from '../format';
import { href } from '../router';
import { Badge, Time } from '../ui/controls';

const TITLES: Record<string, string> = {
  messages_per_day: 'Messages today',
  deliveries_per_day: 'Deliveries today',
  bytes_per_month: 'Bytes this month',
};

export function QuotaRows({ quotas, appId }: { quotas: readonly Schemas['QuotaUse'][]; appId?: string }) {
  if (quotas.every(({ limit, soft_limit }) => limit === null && soft_limit === null)) {
    return (
      <p class="dim">
        No quota is set{appId && <>; <a href={href(['apps', appId, 'settings'])}>settings</a> has them</>}.
        {quotas.length > 0 && ` Used so far: ${quotas.map((quota) => `${amount(quota, quota.used)} ${quota.quota.replaceAll('_', ' ')}`).join(', ')}.`}
      </p>
    );
  }
  return (
    <ul class="quotas">
      {quotas.map((quota) => (
        <li key={quota.quota}>
          <span>
            {TITLES[quota.quota] ?? quota.quota} {quota.state !== 'ok' && <Badge kind={quota.state === 'used_up' ? 'bad' : 'warn'}>{quota.state.replace('_', ' ')}</Badge>}
          </span>
          <span>
            {amount(quota, quota.used)} {quota.limit !== null ? `of ${amount(quota, quota.limit)}` : 'of no limit'}
            {quota.soft_limit !== null && <span class="dim"> (told from {amount(quota, quota.soft_limit)})</span>}
          </span>
          {quota.limit !== null && <meter aria-label={TITLES[quota.quota] ?? quota.quota} min={0} max={quota.limit} high={quota.limit * 0.8} value={Math.min(quota.used, quota.limit)} />}
          <span class="dim">
            begins again at <Time at={quota.resets_at} />
          </span>
          {quota.warning && <span class="warn">{quota.warning}</span>}
        </li>
      ))}
    </ul>
  );
}

function amount({ quota }: Schemas['QuotaUse'], value: number): string {
  return quota.startsWith('bytes') ? bytes(value) : exactly(value);
}
