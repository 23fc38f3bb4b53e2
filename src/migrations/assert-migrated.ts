// Startup check of applications: refuses a database that is not migrated.
import type { DatabaseTarget } from '../databases.ts';
import { OutOfStepError, ValidationError } from '../errors.ts';
import type { Database } from '../pool.ts';
import { readApplied } from './applied.ts';
import { readFolder } from './journal.ts';
import { compareMigrations, type MigrationState } from './state.ts';

/** The database does not match the migration files. */
export class NotMigratedError extends OutOfStepError {
  override readonly name = 'NotMigratedError';
  override readonly code = 'NOT_MIGRATED';
  readonly state: MigrationState;

  constructor(key: DatabaseTarget, state: MigrationState) {
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
 * Call it when an application starts. Resolves if every migration of this package is applied unchanged. Needs one round
 * trip. Accepts migrations that this package does not have: during a deployment they come from a newer version.
 * @param key needed only if the pool has no key.
 * @throws NotMigratedError listing what is pending, edited or wrong; ValidationError without a key; ConnectionError.
 */
export async function assertMigrated(db: Database, key = db.target): Promise<void> {
  if (!key)
    throw new ValidationError(`"${db.name}" is not a name of the registry: pass its key, such as 'core'.`);
  const { migrations, problems } = readFolder(key);
  const state = compareMigrations(migrations, await readApplied(db), problems);
  if (state.pending.length + state.edited.length + state.problems.length > 0)
    throw new NotMigratedError(key, state);
}
