// Makes src/api/schema.d.ts and src/api/facts.ts from docs/openapi.json, and src/api/server-settings.ts from docs/configuration.md.
// With --check nothing is written, and the exit code says whether they are what they would be.
import { readFile, writeFile } from 'node:fs/promises';
import openapiTypescript, { astToString } from 'openapi-typescript';

const root = new URL('..', import.meta.url);
const document = JSON.parse(await readFile(new URL('../docs/openapi.json', root), 'utf8'));
const configuration = await readFile(new URL('../docs/configuration.md', root), 'utf8');
const headOf = (source) => `// Made from ${source} by "npm run types". Changes here are lost.\n`;
const HEAD = headOf('docs/openapi.json');

const files = {
  'src/api/schema.d.ts': HEAD + astToString(await openapiTypescript(adminApi(document), { alphabetize: true, defaultNonNullable: false })),
  'src/api/facts.ts': HEAD + facts(document),
  'src/api/server-settings.ts': headOf('docs/configuration.md') + serverSettings(configuration),
};
const stale = [];
for (const [name, content] of Object.entries(files)) {
  const path = new URL(name, root);
  if ((await readFile(path, 'utf8').catch(() => '')) === content) continue;
  stale.push(name);
  if (!process.argv.includes('--check')) await writeFile(path, content);
}
if (process.argv.includes('--check') && stale.length > 0) {
  console.error(`dashboard/${stale.join(', dashboard/')}: not what docs/openapi.json and docs/configuration.md describe; run "npm run types && npm run build" in dashboard/`);
  process.exit(1);
}

/** What the dashboard uses: the routes below /api/v1 and what they refer to, without prose, as types have none. */
function adminApi({ openapi, info, paths, components }) {
  const used = Object.entries(paths).filter(([path]) => path.startsWith('/api/v1/'));
  const admin = { openapi, info, paths: Object.fromEntries(used), components: {} };
  const wanted = [admin.paths];
  while (wanted.length > 0) {
    for (const [, kind, name] of JSON.stringify(wanted.pop()).matchAll(/"#\/components\/(\w+)\/([^"]+)"/g)) {
      const group = (admin.components[kind] ??= {});
      if (group[name]) continue;
      group[name] = components[kind][name];
      wanted.push(group[name]);
    }
  }
  return JSON.parse(JSON.stringify(admin), (key, value) => {
    // Where an answer can be CSV as well, only links ask for that.
    if (key === 'text/csv') return undefined;
    // A format changes a comment and no type.
    if (['description', 'summary', 'format'].includes(key) && typeof value === 'string') return undefined;
    return key === 'examples' || key === 'example' || key === 'externalDocs' ? undefined : value;
  });
}

/** What forms say about each setting of an app (its explanation, its default and its bounds), and what can be chosen. */
function facts({ paths, components: { schemas } }) {
  const of = (name) =>
    Object.fromEntries(
      Object.entries(schemas[name].properties)
        .filter(([, schema]) => !schema.$ref && schema.type !== 'array')
        .map(([key, { description, type, default: value, minimum, maximum }]) => [
          key,
          { description: description.replace(/\s+/g, ' '), type, default: value, minimum, maximum },
        ]),
    );
  const all = { settings: of('AppSettings'), limits: of('Limits'), quotas: of('Quotas') };
  const { schema } = paths['/api/v1/audit'].get.parameters.find(({ name }) => name === 'action');
  return `export const FACTS = ${JSON.stringify(all, null, 2)} as const;\n\n/** All actions of the audit log. */\nexport const AUDIT_ACTIONS = ${JSON.stringify(schema.enum, null, 2)} as const;\n`;
}

/** What each setting of the server means: the last cells of the tables, in which links are only their text. */
function serverSettings(text) {
  const [ofServer, ofApps] = text.split('\n## Settings of an app\n');
  // A section of its own: a heading, a list of facts, the explanation.
  const sections = ofServer.matchAll(/^### `([a-z_.]+)`\n\n(?:- .*\n)+\n((?:.+\n)+)/gm);
  const explained = [...sections].map(([all, name, meaning]) => [all, name, meaning.trim().replaceAll('\n', ' ')]);
  // In the order of the limits that they bound.
  const place = ([, , limit]) => (ofApps.includes(`| ${limit} |`) ? ofApps.indexOf(`| ${limit} |`) : ofApps.length);
  const rows = [...ofServer.matchAll(/^\| `(ceilings\.[a-z_]+)` \|.*?\| (.*) \|$/gm)];
  const ceilings = rows.sort((one, other) => place(one) - place(other));
  // A quota of all apps together is explained as that of one app is.
  const quotas = ofApps.matchAll(/^\| `(quotas\.[a-z_]+)` \|.*\| (.*) \|$/gm);
  const meanings = [...explained, ...ceilings, ...quotas].map(([, name, meaning]) => {
    const plain = meaning.replace(/\[([^\]]+)\]\([^)]+\)/g, '$1');
    return [name, name.startsWith('ceilings.') ? `Highest value that an app may have of ${plain}.` : plain];
  });
  return `export const SERVER_SETTINGS: Record<string, string> = ${JSON.stringify(Object.fromEntries(meanings), null, 2)};\n`;
}
