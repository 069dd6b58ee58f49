import { defineConfig } from 'vite';

// `FANFARE_SERVER=http://127.0.0.1:6001 npm run dev` serves the sources in front of a running server.
const server = process.env.FANFARE_SERVER ?? 'http://127.0.0.1:6001';

export default defineConfig({
  base: './',
  server: { proxy: { '/api': server, '/demo': server, '/docs': server, '/app': { target: server, ws: true } } },
  build: {
    target: 'es2022',
    assetsDir: '',
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: '[name]-[hash].js',
        chunkFileNames: '[name]-[hash].js',
        assetFileNames: '[name]-[hash][extname]',
      },
    },
  },
});
