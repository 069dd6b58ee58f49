import { defineConfig } from 'vite';

// The scripts and the style of the documentation's pages, which the program is built with (crates/book).
export default defineConfig({
  base: './',
  publicDir: false,
  build: {
    target: 'es2022',
    assetsDir: '',
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rolldownOptions: {
      input: { book: 'src/book/book.ts', scheme: 'src/book/scheme.ts' },
      output: {
        entryFileNames: '[name]-[hash].js',
        chunkFileNames: '[name]-[hash].js',
        assetFileNames: 'book-[hash][extname]',
      },
    },
  },
});
