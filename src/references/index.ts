// Entry point of @atriz/database/references: checks user ids across databases and erases people.
export {
  type ErasedRows,
  type EraseOptions,
  type ErasurePools,
  type ErasureProgress,
  type ErasureReport,
  eraseUser,
} from '../erasure/erase.ts';
export { findOrphans, type OrphanOptions, type OrphanReport } from './orphans.ts';
export { requireUser, requireUsers } from './require.ts';
export { createUserCheck, type UserCheck, type UserCheckOptions } from './user-check.ts';
