// Role and apps of an operator or token.
import type { Schemas } from '../api/client';
import { apps as known, APPS_KNOWN } from '../apps';
import { Select, TextField } from '../ui/controls';

type Role = Schemas['Role'];

const ROLES: readonly (readonly [Role, string])[] = [
  ['viewer', 'viewer: reads'],
  ['admin', 'admin: changes apps, sees data of events'],
  ['owner', 'owner: changes operators as well'],
];

/** Names of apps, or ids of those that the caller doesn't know. */
export function appsOf(apps: string[] | null): string {
  const nameOf = (id: string) => known.value.find((app) => app.id === id)?.name;
  return apps === null ? 'all' : apps.map((id) => (nameOf(id) ? `${nameOf(id)} (${id})` : id)).join(', ');
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
            Ids, or names of one word, with spaces between them. {limited ? `Yours are ${own?.join(', ')}.` : 'Empty: all apps.'}{' '}
            {known.value.length > 0 && known.value.length <= 8 && `There are ${known.value.map(({ id, name }) => `${id} (${name})`).join(', ')}.`}
          </>
        }
        input={{ required: limited }}
      />
    </>
  );
}

/** The ids of what was typed: ids, or names that one app has. Fails for what is neither, if all apps are known here. */
export function cleanApps(apps: string[] | null): string[] | null {
  const typed = apps?.filter(Boolean) ?? [];
  return typed.length > 0 ? typed.map(idOf) : null;
}

function idOf(typed: string): string {
  if (known.value.some(({ id }) => id === typed)) return typed;
  const named = known.value.filter(({ name }) => name.toLowerCase() === typed.toLowerCase());
  if (named[0] && named.length === 1) return named[0].id;
  if (named.length > 1) throw new Error(`${named.length} apps are called ${typed}; name one by its id: ${named.map(({ id }) => id).join(', ')}.`);
  if (known.value.length < APPS_KNOWN) throw new Error(`There is no app with the id or name ${typed}.`);
  return typed;
}
