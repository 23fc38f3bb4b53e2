// generate: writes the next migration with drizzle-kit, and the down file that takes it back.
import { type StdioOptions, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ownDatabase } from '../../src/config.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { AtrizDatabaseError, ConfigurationError } from '../../src/errors.ts';
import { migrationsFolder } from '../../src/migrations/files.ts';
import { readMigrations } from '../../src/migrations/index.ts';
import {
  downPath,
  type Migration,
  readFolder,
  snapshotPath,
  unfinishedMark,
} from '../../src/migrations/journal.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { selectDatabases } from '../../src/targets.ts';
import { deriveDown } from '../drizzle-kit/down-stub.ts';
import {
  kitArguments,
  kitEnvironment,
  needsTerminal,
  renameQuestion,
  withoutStack,
} from '../drizzle-kit/process.ts';
import { type MovedObject, safeStatements } from '../drizzle-kit/safe-statements.ts';
import { squawkAdvice } from '../drizzle-kit/squawk.ts';

interface GenerateOptions {
  name?: string;
  custom?: boolean;
}

export function registerGenerate(program: Command): void {
  program
    .command('generate')
    .description('write a migration from the changes in schema/')
    .argument('[database...]', 'which; default: all')
    .option('--name <name>', 'what it does, e.g. add_vehicles_color')
    .option('--custom', 'an empty migration, to be written by hand')
    .action((names: string[], options: GenerateOptions) => {
      if (options.custom && names.length !== 1) {
        throw new ConfigurationError('--custom writes one migration: name exactly one database.');
      }
      for (const key of selectDatabases(names)) generate(key, options);
    });
  program
    .command('create-migration')
    .description('write an empty migration, to be filled by hand (npm run migrate:create)')
    .usage('[database] <name>')
    .argument('<database>', "which; default: the application's own")
    .argument('[name]', 'what it does, e.g. add_user_metadata')
    .action((first: string, second: string | undefined) => {
      const [key] = second === undefined ? [ownDatabase()] : selectDatabases([first]);
      if (key) generate(key, { name: second ?? first, custom: true });
    });
}

function generate(key: DatabaseKey, { name, custom }: GenerateOptions): void {
  if (name !== undefined && !/^[a-z0-9_]+$/.test(name)) {
    throw new ConfigurationError(`The name is "${name}": use lower-case letters, digits and _.`);
  }
  const extra = [...(name ? ['--name', name] : []), ...(custom ? ['--custom'] : [])];
  const known = new Set(readFolder(key).migrations.map(({ tag }) => tag));
  const isNew = ({ tag }: Migration) => !known.has(tag);
  runKit(key, extra);
  const [written] = readMigrations(key).filter(isNew);
  if (written && !custom) makeSafe(key, written);
  writeMissingDowns(key);
  writeMissingScripts(key);
  const advice = custom ? [] : squawkAdvice(readMigrations(key).filter(isNew));
  if (advice.length === 0) return;
  console.log(`\n"npm run db:lint" refuses this; decide before it is applied:\n${advice.join('\n')}`);
}

/** Moves statements that would block writes into a second migration, which runs without a transaction. */
function makeSafe(key: DatabaseKey, { tag, path, statements }: Migration): void {
  const texts = statements.map(({ text }) => text.trim());
  const { inside, outside, moved } = safeStatements(texts, hypertablesOf(key));
  if (outside.length === 0) {
    if (inside.join() !== texts.join()) writeFileSync(path, joined(inside));
    return;
  }
  const sql = `-- transaction: none\n${joined(outside)}`;
  let outsidePath = path;
  if (inside.length > 0) {
    runKit(key, ['--custom', '--name', `${tag.replace(/^\d+_/, '')}_concurrently`]);
    outsidePath = readMigrations(key).at(-1)?.path ?? path;
    writeFileSync(path, joined(inside));
    forget(moved, snapshotPath(key, tag));
  }
  writeFileSync(outsidePath, sql);
  console.log(
    `${outsidePath} blocks no writes: it runs outside of a transaction, with "npm run db:migrate:${key}" (drizzle-kit migrate cannot)`,
  );
}

const joined = (statements: readonly string[]) => statements.join('--> statement-breakpoint\n');

/** Returns the hypertables that the migrations create, such as `public.location_events`. */
function hypertablesOf(key: DatabaseKey): Set<string> {
  const calls = readMigrations(key).flatMap(({ sql }) => [
    ...sql.matchAll(/create_hypertable\(\s*'([^']+)'/gi),
  ]);
  const names = calls.map(([, relation = '']) => relation.replaceAll('"', ''));
  return new Set(names.map((name) => (name.includes('.') ? name : `public.${name}`)));
}

/** Removes the moved objects from the snapshot of a migration, because the next migration creates them. */
function forget(moved: readonly MovedObject[], path: string): void {
  const snapshot = JSON.parse(readFileSync(path, 'utf8')) as {
    tables: Record<string, Record<MovedObject['kind'], Record<string, unknown>>>;
  };
  for (const { table, kind, name } of moved) delete snapshot.tables[table]?.[kind][name];
  writeFileSync(path, JSON.stringify(snapshot, null, 2));
}

/**
 * Runs drizzle-kit and compares the journal before and after: drizzle-kit may exit with 0 but write nothing.
 * @throws AtrizDatabaseError if the journal did not change although the schema did.
 */
function runKit(key: DatabaseKey, extra: readonly string[]): void {
  const journal = join(migrationsFolder(key), 'meta', '_journal.json');
  const read = () => (existsSync(journal) ? readFileSync(journal, 'utf8') : '');
  const before = read();
  const run = (stdio: StdioOptions) =>
    spawnSync(process.execPath, kitArguments(key, 'generate', extra), {
      cwd: packageRoot(),
      env: kitEnvironment(key),
      stdio,
      encoding: 'utf8',
    });
  const { stdout, stderr } = run(['ignore', 'pipe', 'pipe']);
  const output = `${stdout}${stderr}`;
  if (read() !== before || output.includes('No schema changes')) {
    process.stdout.write(stdout);
    return;
  }
  if (needsTerminal(output)) {
    if (!process.stdin.isTTY || !process.stdout.isTTY) {
      throw new AtrizDatabaseError(
        `Nothing was generated for ${key}: ${renameQuestion}, and there is no terminal. Run "npm run db:generate -- ${key}" in one.`,
      );
    }
    run('inherit');
    if (read() !== before) return;
  }
  throw new AtrizDatabaseError(
    `Nothing was generated for ${key}. drizzle-kit says:\n${withoutStack(output)}`,
  );
}

function writeMissingDowns(key: DatabaseKey): void {
  for (const migration of readMigrations(key)) {
    const path = downPath(migration);
    if (existsSync(path)) continue;
    const text = deriveDown(migration.tag, migration.statements);
    writeFileSync(path, text);
    console.log(
      `${path} takes it back${text.includes(unfinishedMark) ? ', once you finish it: see what it marks' : ''}`,
    );
  }
}

// Adds the npm scripts of a new database, which then needs only a registry entry and a schema file.
function writeMissingScripts(key: DatabaseKey): void {
  const path = join(packageRoot(), 'package.json');
  const manifest = JSON.parse(readFileSync(path, 'utf8')) as { scripts: Record<string, string> };
  const known = Object.entries(manifest.scripts);
  const entries = [...known];
  for (const [name, command] of known.filter(([name]) => name.endsWith(':core'))) {
    const script = name.replace(/core$/, key);
    if (manifest.scripts[script]) continue;
    // Inserted after the last script of its group, so that the list stays readable.
    const group = name.replace(/core$/, '');
    const last = entries.findLastIndex(([other]) => other.startsWith(group));
    entries.splice(last + 1, 0, [script, command.replace(/core$/, key)]);
  }
  const added = entries.length - known.length;
  if (added === 0) return;
  manifest.scripts = Object.fromEntries(entries);
  writeFileSync(path, `${JSON.stringify(manifest, null, 2)}\n`);
  console.log(`package.json got ${added} scripts for ${key}, such as db:migrate:${key}`);
}
