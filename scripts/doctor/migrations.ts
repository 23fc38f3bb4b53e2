// Findings about migrations: compares the records in the database with the files of this checkout.
import type { DatabaseTarget } from '../../src/databases.ts';
import { getMigrationStatus } from '../../src/migrations/index.ts';
import { nameOfRow } from '../../src/migrations/state.ts';
import type { Pool } from '../../src/pool.ts';
import { type Check, error, type Found, warning } from './finding.ts';

/** A separate check, so that `deploy` can ignore its errors and apply the pending migrations. */
export const pendingCheck = 'pending-migrations';

export const migrationChecks: readonly Check[] = [
  { name: pendingCheck, looksAt: 'migrations that are not applied', run: findPending },
  {
    name: 'migrations',
    looksAt: 'migrations that were edited, are out of order, or have no file',
    run: findWrong,
  },
];

async function findPending(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  const { pending, outOfOrder } = await getMigrationStatus(db, key);
  const due = pending.filter((migration) => !outOfOrder.includes(migration)).map(({ tag }) => tag);
  if (due.length === 0) return [];
  return [error(`${due.join(', ')} not applied`, `npm run db:migrate -- ${key}`)];
}

async function findWrong(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  const { edited, outOfOrder, orphaned, problems } = await getMigrationStatus(db, key);
  const late = outOfOrder.map(({ tag }) => tag).join(', ');
  return [
    ...problems.map((problem) =>
      error(`the folder is not sound: ${problem}`, `npm run db:check -- ${key} --offline`),
    ),
    ...edited.map(({ migration: { tag, path } }) =>
      error(
        `${tag} was edited after it was applied: new databases become something else than this one`,
        `npm run migrate -- repair ${key}`,
        `that accepts what it says now; better: restore ${path} from version control`,
      ),
    ),
    ...(late
      ? [
          error(
            `${late} not applied, and older than the latest that is: drizzle-kit would pass over it for good`,
            `npm run db:migrate -- ${key} --allow-out-of-order`,
          ),
        ]
      : []),
    ...(orphaned.length > 0
      ? [
          warning(
            `${orphaned.map(nameOfRow).join(', ')} applied without a file: this checkout is older than the database, or the file was deleted`,
            'npm install @atriz/database@latest',
            `in a checkout: git pull; where the file was deleted or dropped: restore it and take it back, or npm run migrate -- mark ${key} ${orphaned.map(nameOfRow)[0] ?? ''} --undo`,
          ),
        ]
      : []),
  ];
}
