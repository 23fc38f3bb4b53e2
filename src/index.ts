// The public surface of @atriz/database.

export {
  type DatabaseDefinition,
  type DatabaseKey,
  type DatabaseTarget,
  databaseKeys,
  databases,
} from './databases.ts';
export type { NoticeMessage, QueryMessage } from './driver/channels.ts';
export * from './errors.ts';
export { checkHealth, type DatabaseHealth, type Health, type HealthOptions } from './health.ts';
export {
  type AnyDatabase,
  createDatabasePool,
  type Database,
  type DatabasePoolOptions,
  type Pool,
  type PoolStats,
  type QueryResult,
} from './pool.ts';
export type { SeedFunction } from './seed.ts';
export { databaseTargets } from './targets.ts';
export {
  addCompressionPolicy,
  addContinuousAggregatePolicy,
  addRetentionPolicy,
  type CompressionOptions,
  createHypertable,
  enableTimescaleDB,
  type Interval,
  type RefreshPolicy,
  refreshContinuousAggregate,
} from './timescale/timescale.ts';
export { getHourlyStats, getRecentLocations, recordLocation, recordLocations } from './tracking/index.ts';
export { type Transaction, type TransactionOptions, withTransaction } from './transaction.ts';
