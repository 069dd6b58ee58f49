import { defineConfig } from 'vite';
import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));
const entries = ['index', 'encrypted', 'pusher', 'pusher-encrypted', 'recover', 'react'];

// `vite build` makes the modules, `vite build --mode NAME` with a name of `scripts` a file for a script tag.
export default defineConfig(({ mode }) => ({
  define: { __VERSION__: JSON.stringify(version) },
  build: scripts[mode] ?? modules,
}));

const common = { sourcemap: true, target: 'es2022', emptyOutDir: false, reportCompressedSize: false };

const script = {
  ...common,
  minify: true,
  lib: { entry: 'src/script.ts', name: 'Fanfare', formats: ['iife' as const], fileName: () => 'fanfare.js' },
};

// Without a source map: most of it is tweetnacl, and the program that serves it holds all of these files.
const scriptEncrypted = {
  ...script,
  sourcemap: false,
  lib: { ...script.lib, entry: 'src/script-encrypted.ts', fileName: () => 'fanfare-encrypted.js' },
};

const scriptRecover = {
  ...script,
  sourcemap: false,
  lib: { ...script.lib, entry: 'src/script-recover.ts', name: 'fanfareRecover', fileName: () => 'recover.js' },
};

const scripts: Record<string, typeof script> = {
  script,
  'script-encrypted': scriptEncrypted,
  'script-recover': scriptRecover,
};

const modules = {
  ...common,
  minify: false,
  lib: { entry: Object.fromEntries(entries.map((name) => [name, `src/${name}.ts`])) },
  rolldownOptions: {
    external: ['react'],
    output: (['es', 'cjs'] as const).map((format) => ({
      format,
      entryFileNames: `${format}/[name].js`,
      chunkFileNames: `${format}/shared/[name].js`,
      exports: 'auto' as const,
      banner: ({ name }: { name: string }) => (name === 'react' ? "'use client';" : ''),
    })),
  },
};
