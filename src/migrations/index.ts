// Entry point @atriz/database/migrations: applies migrations, takes them back, and shows what is pending.
export { assertMigrated, NotMigratedError } from './assert-migrated.ts';
export { type HistoryEntry, readHistory } from './history.ts';
export { type Migration, readMigrations } from './journal.ts';
export {
  getMigrationStatus,
  type MigrateOptions,
  markApplied,
  migrate,
  type RollbackOptions,
  redo,
  repair,
  rollback,
  unmarkApplied,
} from './runner.ts';
export { MigrationLockError } from './session.ts';
export { type AppliedRow, isInStep, type MigrationState } from './state.ts';
