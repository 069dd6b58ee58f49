import { expect, test } from 'vitest';
import type { Schemas } from '../src/api/client';
import { formOf, identityOf, NEW_GRANT, NEW_PROVIDER, NEW_SIGN_IN } from '../src/identity-form';

const PROVIDER: Schemas['Provider'] = { issuer: null, audience: [], algorithms: ['RS256'], leeway_seconds: null, secret: null, public_key: null, jwks_url: null };
const GRANT: Schemas['Grant'] = { channels: null, channels_claim: null, presence: { user_id: 'sub', user_info: {} }, when: {} };

test('what is shown and not changed is sent back as it was', () => {
  const identity: Schemas['Identity'] = {
    providers: [
      { ...PROVIDER, issuer: 'https://login.example.com/', audience: ['orders', 'a shop'], algorithms: ['RS256', 'ES256'], leeway_seconds: 60, jwks_url: 'https://login.example.com/keys' },
      { ...PROVIDER, algorithms: ['EdDSA'], public_key: '-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----' },
      { ...PROVIDER, algorithms: ['HS256'], secret: 'set' },
    ],
    grants: [
      { ...GRANT, channels: 'private-user-{sub}' },
      {
        ...GRANT,
        channels_claim: 'https://example.com/channels?a=1',
        presence: { user_id: 'id', user_info: { name: 'given_name', mail: 'https://example.com/mail' } },
        when: { roles: 'admin', level: 3, active: true, code: '3', quoted: '"x"', none: 'null' },
      },
    ],
    sign_in: { id: 'sub', user_info: { name: 'name' }, watchlist: 'friends' },
  };
  expect(identityOf(formOf(identity))).toEqual(identity);
  expect(identityOf(formOf({}))).toEqual({ providers: [], grants: [], sign_in: null });
});

test('only the chosen kind of keys and of channels is sent', () => {
  const provider = { ...NEW_PROVIDER, jwks_url: ' https://example.com/keys ', secret: ' kept as it is ', algorithms: ['HS256' as const] };
  expect(identityOf({ providers: [{ ...provider, source: 'secret' }], grants: [], sign_in: null }).providers).toEqual([
    { ...PROVIDER, algorithms: ['HS256'], secret: ' kept as it is ' },
  ]);
  expect(identityOf({ providers: [provider], grants: [], sign_in: null }).providers?.[0]?.jwks_url).toBe('https://example.com/keys');
  const grant = { ...NEW_GRANT, channels: 'private-*', channels_claim: 'channels', by: 'channels_claim' } as const;
  expect(identityOf({ providers: [], grants: [grant], sign_in: NEW_SIGN_IN }).grants).toEqual([{ ...GRANT, channels_claim: 'channels' }]);
});

test('a line that can’t be read is named with its place', () => {
  const one = { providers: [], grants: [{ ...NEW_GRANT, channels: 'private-*', when: 'roles=admin' }], sign_in: null };
  expect(() => identityOf(one)).toThrow(/^Grant 1, conditions: the line “roles=admin” must be/);
  expect(() => identityOf({ ...one, grants: [], sign_in: { ...NEW_SIGN_IN, user_info: 'name' } })).toThrow(/^Sign-in, user info/);
  expect(() => identityOf({ ...one, grants: [], providers: [{ ...NEW_PROVIDER, leeway: 'soon' }] })).toThrow(/Provider 1, clock difference: “soon”/);
});
