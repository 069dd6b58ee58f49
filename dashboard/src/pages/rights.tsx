// Role and apps of an operator or token.
import type { Schemas } from '../api/client';
import { apps as known } from '../apps';
import { Select, TextField } from '../ui/controls';

type Role = Schemas['Role'];

const ROLES: readonly (readonly [Role, string])[] = [
  ['viewer', 'viewer: reads'],
  ['admin', 'admin: changes apps, sees data of events'],
  ['owner', 'owner: changes operators as well'],
];

export function appsOf(apps: string[] | null): string {
  return apps === null ? 'all' : apps.join(', ');
}

/** `roles` are those that the caller may give. */
export function RightsFields({ role, apps, onChange, most = 'owner', own }: { role: Role; apps: string[] | null; onChange: (rights: { role: Role; apps: string[] | null }) => void; most?: Role; own?: string[] | null }) {
  const allowed = ROLES.slice(0, ROLES.findIndex(([name]) => name === most) + 1);
  const text = apps?.join(' ') ?? '';
  const limited = !!own;
  return (
    <>
      <Select label="Role" value={role} options={allowed} onChange={(next) => onChange({ role: next, apps })} />
      <TextField
        label="Apps"
        value={text}
        onInput={(value) => {
          // While it is typed, a space at the end begins the next id.
          const ids = value.split(/\s/);
          onChange({ role, apps: value.trim() === '' ? null : ids.filter((id, at) => id !== '' || at === ids.length - 1) });
        }}
        help={
          <>
            Ids with spaces between them. {limited ? `Yours are ${own?.join(', ')}.` : 'Empty: all apps.'}{' '}
            {known.value.length > 0 && known.value.length <= 8 && `There are ${known.value.map(({ id, name }) => `${id} (${name})`).join(', ')}.`}
          </>
        }
        input={{ required: limited }}
      />
    </>
  );
}

/** The ids without what only typing needs. */
export function cleanApps(apps: string[] | null): string[] | null {
  const ids = apps?.filter(Boolean) ?? [];
  return ids.length > 0 ? ids : null;
}
