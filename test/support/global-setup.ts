// Before all tests: the command line compiled, the server, a migrated template of each database that can be cloned.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';
import { dropDatabase } from '../../scripts/cli/pools.ts';
import { databaseKeys, definitionOf } from '../../src/databases.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { forgetSettings } from './environment.ts';
import { templateName } from './names.ts';
import { hasTemplate, startServer, type TestServer } from './server.ts';
import { createTemplate } from './templates.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    server: TestServer;
    /** Part of every database name of this run. */
    run: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  forgetSettings();
  const compiled = compile();
  const { stop, ...server } = await startServer();
  const run = Math.random().toString(36).slice(2, 8);
  project.provide('server', server);
  project.provide('run', run);
  const templates = databaseKeys
    .filter((key) => hasTemplate(key, server.capabilities))
    .map((key) => ({
      key,
      name: templateName(run, key),
      url: definitionOf(key).extensions.length > 0 ? server.tracking : server.plain,
    }));
  const made = templates.map(({ key, name, url }) => createTemplate(key, name, url, server));
  const dropTemplates = () =>
    Promise.all(
      templates.map(async ({ name, url }) => {
        await using maintenance = createDatabasePool({ connectionString: url, max: 1 });
        await dropDatabase(maintenance, name);
      }),
    );
  try {
    await Promise.all([compiled, ...made]);
  } catch (error) {
    await Promise.allSettled(made);
    // A server that fails here must not hide why the setup failed.
    await dropTemplates().catch(() => undefined);
    await stop();
    throw error;
  }
  return async () => {
    await dropTemplates();
    const left = await Promise.all([leftOver(server.plain, run), leftOver(server.tracking, run)]);
    await stop();
    const names = [...new Set(left.flat())];
    if (names.length > 0) throw new Error(`The tests left databases or roles behind: ${names.join(', ')}.`);
  };
}

async function leftOver(url: string, run: string): Promise<string[]> {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  const { rows } = await pool.query<{ name: string }>(
    `SELECT datname AS name FROM pg_database WHERE starts_with(datname, $1)
     UNION ALL SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)`,
    [`atriz_test_${run}_`],
  );
  return rows.map(({ name }) => name);
}

/** What tests run as processes of their own, into `compiledFolder`. */
async function compile(): Promise<void> {
  const root = packageRoot();
  await promisify(execFile)(join(root, 'node_modules', '.bin', 'tsc'), ['-p', join(root, 'test')]);
}
