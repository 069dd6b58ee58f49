import { defineConfig } from 'vitest/config';

export default defineConfig({
  define: { __VERSION__: '"0.1.0"' },
  test: { include: ['test/unit/**/*.test.{ts,tsx}'] },
});
