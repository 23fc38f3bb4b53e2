// Checks with drizzle-kit whether schema/ and drizzle/ match.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { DrizzleSnapshotJSON } from 'drizzle-kit/api';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { readFolder, snapshotPath } from '../../src/migrations/journal.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { kitArguments, kitEnvironment, needsTerminal, renameQuestion, withoutStack } from './process.ts';

/** Returns a sentence for each difference between schema and migrations. */
export async function compareWithSchema(key: DatabaseKey): Promise<string[]> {
  return (await Promise.all([pendingChanges(key), kitCheck(key)])).flat();
}

async function pendingChanges(key: DatabaseKey): Promise<string[]> {
  const last = readFolder(key).migrations.at(-1);
  if (!last) return [];
  // Imported here, because drizzle-kit is a development dependency. An installed package lacks it.
  const { generateDrizzleJson, generateMigration } = await import('drizzle-kit/api');
  const snapshot = snapshotPath(key, last.tag);
  const ahead = `the schema is ahead of its migrations, run "npm run db:generate -- ${key} --name …"`;
  try {
    const recorded = JSON.parse(readFileSync(snapshot, 'utf8')) as DrizzleSnapshotJSON;
    const changes = await generateMigration(
      recorded,
      generateDrizzleJson(definitionOf(key).schema, recorded.id),
    );
    return changes.map((change) => `${ahead}:\n${change}`);
  } catch (error) {
    const { message } = error as Error;
    return needsTerminal(message)
      ? [`${ahead} in a terminal: ${renameQuestion}.`]
      : [
          `${snapshot} and schema/${key}.ts cannot be compared (${message}): restore the snapshot from version control.`,
        ];
  }
}

async function kitCheck(key: DatabaseKey): Promise<string[]> {
  try {
    await promisify(execFile)(process.execPath, kitArguments(key, 'check'), {
      cwd: packageRoot(),
      env: kitEnvironment(key),
    });
    return [];
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    if (stdout === undefined) throw error;
    return [`drizzle-kit check found:\n${withoutStack(`${stdout}${stderr}`)}`];
  }
}
