// Fails when schema/ and drizzle/ disagree: a change without a migration, a journal that broke in a merge.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type DrizzleSnapshotJSON, generateDrizzleJson, generateMigration } from 'drizzle-kit/api';
import { type DatabaseKey, databaseKeys, definitionOf } from '../../src/databases.ts';
import { readMigrations } from '../../src/migrations/index.ts';
import { migrationsFolder } from '../../src/migrations/journal.ts';
import { packageRoot } from '../../src/package-root.ts';
import { kitArguments, kitEnvironment } from '../drizzle-kit-process.ts';

const problems = (await Promise.all(databaseKeys.map(check))).flat();
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 3;
else console.log('Schema and migrations are in step.');

async function check(key: DatabaseKey): Promise<string[]> {
  const migrations = readMigrations(key);
  const withoutDown = migrations
    .filter(({ path }) => !existsSync(path.replace(/\.sql$/, '.down.sql')))
    .map(({ tag }) => `${key}: ${tag}.sql has no ${tag}.down.sql beside it.`);
  const last = migrations.at(-1);
  if (!last) return [`${key}: no migrations. Run "npm run db:generate -- ${key} --name tables".`];
  const number = last.tag.slice(0, 4);
  const snapshot = join(migrationsFolder(key), 'meta', `${number}_snapshot.json`);
  const recorded = JSON.parse(readFileSync(snapshot, 'utf8')) as DrizzleSnapshotJSON;
  const changes = await generateMigration(
    recorded,
    generateDrizzleJson(definitionOf(key).schema, recorded.id),
  );
  return [
    ...withoutDown,
    ...changes.map(
      (change) =>
        `${key}: the schema is ahead of its migrations. Run "npm run db:generate -- ${key} --name …":\n${change}`,
    ),
    ...(await kitCheck(key)),
  ];
}

async function kitCheck(key: DatabaseKey): Promise<string[]> {
  try {
    await promisify(execFile)(process.execPath, kitArguments(key, 'check'), {
      cwd: packageRoot(),
      env: kitEnvironment(key),
    });
    return [];
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    return [`${key}: drizzle-kit check found:\n${stdout}${stderr}`];
  }
}
