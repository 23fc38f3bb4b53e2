// Rehearses the pending migrations of one database on a copy of it, up and down.
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { MigrationError } from '../../src/errors.ts';
import { getMigrationStatus, type Migration, migrate, rollback } from '../../src/migrations/index.ts';
import { irreversibleReason, readDown } from '../../src/migrations/journal.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { differences, readCatalog } from '../catalog/catalog.ts';
import { type Observation, Observer } from './observe.ts';
import { startTraffic, type TrafficReport } from './traffic.ts';

export interface MigrationRehearsal extends UpRehearsal {
  readonly down: DownRehearsal;
}

interface UpRehearsal extends Observation {
  readonly tag: string;
  readonly path: string;
  readonly traffic: TrafficReport | null;
  /** The reason from `-- blocks: reason`, with which the file accepts a long block. */
  readonly acceptedReason: string | null;
}

interface DownRehearsal {
  readonly durationMs: number | null;
  /** The reason from `-- irreversible: reason`. */
  readonly irreversibleReason: string | null;
  /** What the down file leaves behind or does not restore, or why it failed. */
  readonly problems: readonly string[];
}

export interface DatabaseRehearsal {
  readonly database: DatabaseTarget;
  /** The folder of the backup; null for a dump that was made for the rehearsal. */
  readonly backup: string | null;
  readonly migrations: readonly MigrationRehearsal[];
  /** What a person should look at before these migrations run. */
  readonly problems: readonly string[];
}

interface RehearseOptions {
  /** Tags of migrations that are pending on the real database. Older ones are applied to the copy first. */
  readonly pending: readonly string[];
  readonly withTraffic: boolean;
  readonly onStage: (text: string) => void;
}

/**
 * @param url of a copy of the database. The rehearsal changes the copy.
 * @throws MigrationError if a migration fails on the copy, as it would on the real database.
 */
export async function rehearse(
  key: DatabaseTarget,
  url: string,
  { pending, withTraffic, onStage }: RehearseOptions,
): Promise<MigrationRehearsal[]> {
  await using pool = createDatabasePool({
    connectionString: url,
    schema: definitionOf(key).schema,
    applicationName: 'atriz-db',
    max: 4,
  });
  const { pending: due } = await getMigrationStatus(pool, key);
  const rehearsed = due.filter(({ tag }) => pending.includes(tag));
  const older = due[due.length - rehearsed.length - 1];
  if (older) await migrate(pool, key, { to: older.tag });

  const ups: { migration: Migration; before: string[]; up: UpRehearsal }[] = [];
  for (const migration of rehearsed) {
    onStage(migration.tag);
    const before = await readCatalog(pool);
    ups.push({ migration, before, up: await rehearseUp(pool, key, migration, withTraffic) });
  }
  const results: MigrationRehearsal[] = [];
  let isTakenBack = true;
  for (const { migration, before, up } of ups.reverse()) {
    onStage(`${migration.tag}, back`);
    const down: DownRehearsal = isTakenBack ? await rehearseDown(pool, key, migration, before) : notRun;
    isTakenBack = down.durationMs !== null && down.problems.length === 0;
    results.unshift({ ...up, down });
  }
  return results;
}

async function rehearseUp(
  pool: Pool,
  key: DatabaseTarget,
  migration: Migration,
  withTraffic: boolean,
): Promise<UpRehearsal> {
  const { tag, path, sql } = migration;
  const observer = new Observer(pool, migration.inTransaction);
  const load = withTraffic ? await startTraffic(pool) : undefined;
  let observation: Observation | undefined;
  let traffic: TrafficReport | undefined;
  try {
    await migrate(pool, key, { to: tag, observe: observer.observe });
    observation = await observer.finish();
  } finally {
    traffic = await load?.stop();
  }
  return { tag, path, ...observation, traffic: traffic ?? null, acceptedReason: acceptedReason(sql) ?? null };
}

const notRun: DownRehearsal = { durationMs: null, irreversibleReason: null, problems: [] };

async function rehearseDown(
  pool: Pool,
  key: DatabaseTarget,
  migration: Migration,
  before: readonly string[],
): Promise<DownRehearsal> {
  const file = readDown(migration);
  const reason = file && 'sql' in file ? irreversibleReason(file.sql) : undefined;
  if (reason !== undefined) return { ...notRun, irreversibleReason: reason };
  const startedAt = performance.now();
  try {
    await rollback(pool, key);
  } catch (error) {
    if (!(error instanceof MigrationError)) throw error;
    return { ...notRun, problems: [error.message] };
  }
  const durationMs = performance.now() - startedAt;
  return { ...notRun, durationMs, problems: differences('the down', before, await readCatalog(pool)) };
}

/** The reason from `-- blocks: reason`, which must be among the comments at the start of a migration. */
const acceptedReason = (sql: string): string | undefined =>
  /^(?:\s*--.*\n)*?\s*--\s*blocks:\s*(\S.*)/.exec(sql)?.[1];
