// One suite over three kinds of server: test/support/server.ts says which.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    env: { TZ: 'UTC' },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Each worker is a process with tests that wait for servers: more than cores would only compete.
    maxWorkers: 3,
  },
});
