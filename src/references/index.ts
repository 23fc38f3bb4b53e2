// @atriz/database/references: user_id across databases, which no foreign key keeps true.
export {
  type ErasedRows,
  type EraseOptions,
  type ErasureProgress,
  type ErasureReport,
  eraseUser,
} from '../erasure/erase.ts';
export { findOrphans, type OrphanOptions, type OrphanReport } from './orphans.ts';
export { requireUser, requireUsers } from './require.ts';
export { createUserCheck, type UserCheck, type UserCheckOptions } from './user-check.ts';
