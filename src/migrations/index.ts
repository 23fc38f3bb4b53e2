// @atriz/database/migrations: apply migrations and see what is pending.
export type { Migration } from './journal.ts';
export { readMigrations } from './journal.ts';
export { getMigrationStatus, type MigrateOptions, migrate } from './runner.ts';
export type { AppliedRow, MigrationState } from './state.ts';
