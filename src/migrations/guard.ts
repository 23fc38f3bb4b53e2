// The boot guard of applications: refuses to start on a database that is not migrated.
import type { DatabaseKey } from '../databases.ts';
import { OutOfStepError, ValidationError } from '../errors.ts';
import type { Database } from '../pool.ts';
import { readApplied } from './applied.ts';
import { readFolder } from './journal.ts';
import { compareMigrations, type MigrationState } from './state.ts';

/** The database is not as the files say. */
export class NotMigratedError extends OutOfStepError {
  override readonly name = 'NotMigratedError';
  override readonly code = 'NOT_MIGRATED';
  readonly state: MigrationState;

  constructor(key: DatabaseKey, state: MigrationState) {
    const list = (what: string, tags: readonly string[]) =>
      tags.length > 0 ? [`${what} ${tags.join(', ')}`] : [];
    const found = [
      ...list(
        'pending',
        state.pending.map(({ tag }) => tag),
      ),
      ...list(
        'edited',
        state.edited.map(({ migration }) => migration.tag),
      ),
      ...state.problems,
    ];
    super(
      `${key} is not migrated: ${found.join('; ')}. Run "npm run db:migrate -- ${key}" before the application starts.`,
      {
        database: key,
      },
    );
    this.state = state;
  }
}

/**
 * For the start of an application: resolves when every migration of this package is applied as it
 * stands. One round trip. Migrations that the database has and this package does not know are fine:
 * they come from a newer version, while an older one is still being replaced.
 * @param key only where the pool was not made with `{ database }` and the database has a name of its own.
 * @throws NotMigratedError listing what is pending or edited.
 */
export async function assertMigrated(db: Database, key = db.key): Promise<void> {
  if (!key)
    throw new ValidationError(`"${db.name}" is not a name of the registry: pass its key, such as 'core'.`);
  const { migrations, problems } = readFolder(key);
  const state = compareMigrations(migrations, await readApplied(db), problems);
  if (state.pending.length + state.edited.length + state.problems.length > 0)
    throw new NotMigratedError(key, state);
}
