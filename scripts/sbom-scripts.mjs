// Prints a CycloneDX document of the program with the npm packages added that its embedded scripts are made of: those that the sources
// import, and what these need. Arguments: the document, and the folders of the scripts. They are bundled, so no manifest of npm tells them
// from the packages that only build and test.
import { readFileSync, readdirSync } from 'node:fs';

const [document, ...folders] = process.argv.slice(2);
// Where this is built is nobody's concern.
const bom = JSON.parse(readFileSync(document, 'utf8').replaceAll(`file://${process.cwd()}/`, 'file:///fanfare/'));
const added = new Map();

for (const folder of folders) {
  const { packages } = JSON.parse(readFileSync(`${folder}/package-lock.json`, 'utf8'));
  const add = (name) => {
    const entry = packages[`node_modules/${name}`];
    if (!entry) throw new Error(`${folder} imports ${name}, which its package-lock.json doesn't have`);
    const purl = `pkg:npm/${name.replace('@', '%40')}@${entry.version}`;
    if (added.has(purl)) return;
    const [, digest] = /^sha512-(.*)$/.exec(entry.integrity);
    added.set(purl, {
      type: 'library',
      'bom-ref': purl,
      name,
      version: entry.version,
      scope: 'required',
      hashes: [{ alg: 'SHA-512', content: Buffer.from(digest, 'base64').toString('hex') }],
      licenses: [{ expression: entry.license }],
      purl,
    });
    Object.keys(entry.dependencies ?? {}).forEach(add);
  };
  const sources = readdirSync(`${folder}/src`, { recursive: true }).filter((file) => /\.tsx?$/.test(file));
  for (const file of sources) {
    const text = readFileSync(`${folder}/src/${file}`, 'utf8');
    for (const [, name] of text.matchAll(/^(?:import|export) (?!type )[^;]*?from '((?:@[\w-]+\/)?[\w-]+)(?:\/[^']*)?';/gm)) {
      // Not what users of the SDK bring themselves, nor what only an example in a text imports.
      const { devDependencies, peerDependencies } = packages[''];
      if (devDependencies[name] && !peerDependencies?.[name]) add(name);
    }
  }
}
if (added.size === 0) throw new Error(`no package is imported in ${folders.join(' and ')}`);
bom.components = [...bom.components, ...[...added.values()].sort((a, b) => (a.purl < b.purl ? -1 : 1))];
const own = bom.dependencies.find(({ ref }) => ref === bom.metadata.component['bom-ref']);
own.dependsOn = [...(own.dependsOn ?? []), ...added.keys()].sort();
console.log(JSON.stringify(bom, null, 2));
