// Findings about rows: dead rows, expired tokens, references to users that do not exist in core.
import { isOver } from '../../src/auth/purge.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { NotMigratedError } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { findOrphans } from '../../src/references/orphans.ts';
import { hasRelation } from '../../src/sql/relations.ts';
import type { Transaction } from '../../src/transaction.ts';
import { formatCount, plural } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { type Check, error, type Found, onCatalogPath, warning } from './finding.ts';
import { thresholds } from './thresholds.ts';

export const rowChecks: readonly Check[] = [
  { name: 'bloat', looksAt: 'dead rows that autovacuum has not removed', run: onCatalogPath(findBloat) },
  { name: 'tokens', looksAt: 'expired tokens', run: onCatalogPath(findExpiredTokens) },
  {
    name: 'orphans',
    isOfOperation: true,
    looksAt: 'rows whose person does not exist in atriz_core',
    run: findStrangers,
  },
];

async function findBloat(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ relation: string; live: number; dead: number; vacuumed: Date | null }>(
    `SELECT relid::regclass::text AS relation, n_live_tup::float8 AS live, n_dead_tup::float8 AS dead,
       greatest(last_vacuum, last_autovacuum) AS vacuumed
     FROM pg_stat_user_tables
     WHERE n_dead_tup >= $1::float8 AND n_dead_tup >= $2::float8 * (n_live_tup + n_dead_tup)
     ORDER BY n_dead_tup DESC`,
    [thresholds.bloat.deadRows, thresholds.bloat.deadShare],
  );
  return rows.map(({ relation, live, dead, vacuumed }) =>
    warning(
      `${relation} has ${formatCount(dead)} dead rows beside ${formatCount(live)} living ones, ` +
        `${vacuumed ? `vacuumed last at ${vacuumed.toISOString()}` : 'never vacuumed'}`,
      `VACUUM (ANALYZE) ${relation}`,
    ),
  );
}

/** Warns if purge-tokens would delete more than `tokens.expired` tokens. Does not count beyond that. */
async function findExpiredTokens(db: Transaction, key: DatabaseTarget): Promise<Found[]> {
  if (!('authTokens' in definitionOf(key).schema) || !(await hasRelation(db, 'public.auth_tokens')))
    return [];
  const most = thresholds.tokens.expired;
  const { rows } = await db.query<{ expired: number }>(
    `SELECT count(*)::float8 AS expired FROM (
       SELECT 1 FROM public.auth_tokens AS token WHERE ${isOver('token')}
       LIMIT $1::bigint + 1) AS capped`,
    [most],
  );
  const expired = rows[0]?.expired ?? 0;
  if (expired <= most) return [];
  return [
    warning(
      `more than ${plural(most, 'token')} are over and still here`,
      'npm run db:purge-tokens',
      'every hour or so, from a schedule',
    ),
  ];
}

async function findStrangers(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  if (key === 'core') return [];
  try {
    const reports = await withPool('core', (core) => findOrphans(core, db, { key, samples: 1 }));
    return reports
      .filter(({ orphans }) => orphans > 0)
      .map(({ relation, column, orphans, rows, samples }) =>
        error(
          `${plural(rows, 'row')} of ${relation}.${column} ${rows === 1 ? 'names' : 'name'} ${plural(orphans, 'user')} whom atriz_core does not know`,
          `npm run db:erase-user -- ${samples[0]?.userId}`,
          orphans > 1 ? `all of them: npm run db:references -- ${key} --samples ${orphans}` : undefined,
        ),
      );
  } catch (failure) {
    // Core or this database is not migrated, which its own migration checks report.
    if (failure instanceof NotMigratedError) return [];
    throw failure;
  }
}
