// An app's identity as a form shows it. Lists and maps are texts with an entry a line.
import type { Schemas } from './api/client';

type Identity = Schemas['Identity'];
type Provider = Schemas['Provider'];
type Grant = Schemas['Grant'];
type Algorithm = Schemas['Algorithm'];

/** What the server shows in place of a secret, and what keeps the secret if it is sent back. */
export const KEPT = 'set';

export type KeySource = 'jwks_url' | 'public_key' | 'secret';

export interface ProviderForm {
  issuer: string;
  audience: string;
  algorithms: readonly Algorithm[];
  leeway: string;
  source: KeySource;
  jwks_url: string;
  public_key: string;
  secret: string;
}

export interface GrantForm {
  by: 'channels' | 'channels_claim';
  channels: string;
  channels_claim: string;
  when: string;
  user_id: string;
  user_info: string;
}

export interface SignInForm {
  id: string;
  user_info: string;
  watchlist: string;
}

export interface IdentityForm {
  providers: readonly ProviderForm[];
  grants: readonly GrantForm[];
  sign_in: SignInForm | null;
}

export const NEW_PROVIDER: ProviderForm = { issuer: '', audience: '', algorithms: ['RS256'], leeway: '', source: 'jwks_url', jwks_url: '', public_key: '', secret: '' };
export const NEW_GRANT: GrantForm = { by: 'channels', channels: '', channels_claim: '', when: '', user_id: 'sub', user_info: '' };
export const NEW_SIGN_IN: SignInForm = { id: 'sub', user_info: '', watchlist: '' };

export function formOf({ providers, grants, sign_in }: Identity): IdentityForm {
  return {
    providers: (providers ?? []).map(providerForm),
    grants: (grants ?? []).map(grantForm),
    sign_in: sign_in ? { id: sign_in.id ?? 'sub', user_info: pairs(sign_in.user_info), watchlist: sign_in.watchlist ?? '' } : null,
  };
}

function providerForm({ issuer, audience, algorithms, leeway_seconds, secret, public_key, jwks_url }: Provider): ProviderForm {
  return {
    issuer: issuer ?? '',
    audience: (audience ?? []).join('\n'),
    algorithms: algorithms ?? [],
    leeway: leeway_seconds?.toString() ?? '',
    source: secret ? 'secret' : public_key ? 'public_key' : 'jwks_url',
    jwks_url: jwks_url ?? '',
    public_key: public_key ?? '',
    secret: secret ?? '',
  };
}

function grantForm({ channels, channels_claim, presence, when }: Grant): GrantForm {
  return {
    by: channels_claim ? 'channels_claim' : 'channels',
    channels: channels ?? '',
    channels_claim: channels_claim ?? '',
    when: Object.entries(when ?? {}).map(([claim, value]) => `${claim} = ${shown(value)}`).join('\n'),
    user_id: presence?.user_id ?? 'sub',
    user_info: pairs(presence?.user_info),
  };
}

function pairs(map: Record<string, string> | undefined): string {
  return Object.entries(map ?? {}).map(([name, claim]) => `${name} = ${claim}`).join('\n');
}

/** Text without quotes, unless it would be read as something else then. */
function shown(value: unknown): string {
  return typeof value === 'string' && valueOf(value) === value ? value : JSON.stringify(value);
}

/** A number, a truth value or a text in quotes as JSON has them, or the text as it is. */
function valueOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value === null || typeof value === 'object' ? text : value;
  } catch {
    return text;
  }
}

/** What is sent. Fails for a line that can't be read, with its place. */
export function identityOf({ providers, grants, sign_in }: IdentityForm): Identity {
  return {
    providers: providers.map(providerOf),
    grants: grants.map(grantOf),
    sign_in: sign_in && {
      id: sign_in.id.trim(),
      user_info: mapOf('sign-in, user info', sign_in.user_info),
      watchlist: sign_in.watchlist.trim() || null,
    },
  };
}

function providerOf({ issuer, audience, algorithms, leeway, source, ...keys }: ProviderForm, at: number): Provider {
  if (leeway.trim() && !/^\d+$/.test(leeway.trim())) throw new Error(`Provider ${at + 1}, clock difference: “${leeway}” is not a whole number of seconds.`);
  return {
    issuer: issuer.trim() || null,
    audience: linesOf(audience),
    algorithms: [...algorithms],
    leeway_seconds: leeway.trim() ? Number(leeway) : null,
    secret: null,
    public_key: null,
    jwks_url: null,
    // A secret may begin or end with a space.
    [source]: source === 'secret' ? keys.secret : keys[source].trim(),
  };
}

function grantOf({ by, when, user_id, user_info, ...names }: GrantForm, at: number): Grant {
  const place = `grant ${at + 1}`;
  const conditions = entriesOf(`${place}, conditions`, when).map(([claim, value]) => [claim, valueOf(value)]);
  return {
    channels: null,
    channels_claim: null,
    [by]: names[by].trim(),
    presence: { user_id: user_id.trim(), user_info: mapOf(`${place}, user info`, user_info) },
    when: Object.fromEntries(conditions),
  };
}

function mapOf(place: string, text: string): Record<string, string> {
  return Object.fromEntries(entriesOf(place, text));
}

/** Lines of the form `name = value`. A name may be a URL, so the sign has spaces around it. */
function entriesOf(place: string, text: string): [string, string][] {
  return linesOf(text).map((line) => {
    const at = line.indexOf(' = ');
    if (at < 1) throw new Error(`${place.charAt(0).toUpperCase()}${place.slice(1)}: the line “${line}” must be “name = claim”, with spaces around the sign.`);
    return [line.slice(0, at).trim(), line.slice(at + 3).trim()];
  });
}

function linesOf(text: string): string[] {
  return text.split('\n').map((line) => line.trim()).filter(Boolean);
}
