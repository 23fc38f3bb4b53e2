// Before all tests: the server, and one migrated template for each plain database.
import type { TestProject } from 'vitest/node';
import { withDatabase } from '../../src/database-url.ts';
import { databaseKeys, definitionOf } from '../../src/databases.ts';
import { migrate } from '../../src/migrations/index.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { startServer, type TestServer } from './server.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    server: TestServer;
    /** Part of every database name of this run. */
    run: string;
  }
}

export const templateName = (run: string, key: string): string => `atriz_test_${run}_template_${key}`;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { stop, ...server } = await startServer();
  const run = Math.random().toString(36).slice(2, 8);
  project.provide('server', server);
  project.provide('run', run);
  const plainKeys = databaseKeys.filter((key) => definitionOf(key).extensions.length === 0);
  for (const key of plainKeys) {
    const name = templateName(run, key);
    await query(server.plain, `CREATE DATABASE "${name}"`);
    await using pool = createDatabasePool({ connectionString: withDatabase(server.plain, name) });
    await migrate(pool, key);
  }
  return async () => {
    for (const key of plainKeys)
      await query(server.plain, `DROP DATABASE "${templateName(run, key)}" WITH (FORCE)`);
    await stop();
  };
}

async function query(url: string, text: string): Promise<void> {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  await pool.query(text);
}
