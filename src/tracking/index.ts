// Entry point of @atriz/database/tracking: writes, imports, exports and reads GPS locations.
export type { LocationInput } from './columns.ts';
export { comparePolicies, type PolicyDifference } from './compare-policies.ts';
export { exportLocations } from './export.ts';
export { getLocationHistory, getTrack, type LocationHistory, type TimeRange } from './history.ts';
export type { DialectOptions, LocationFormat } from './import/dialect.ts';
export {
  type ImportOptions,
  type ImportResult,
  importLocations,
  type LocationSource,
} from './import/import.ts';
export type { ImportReject } from './import/parse.ts';
export {
  getHourlyStats,
  getLatestLocations,
  getRecentLocations,
  type LatestLocationsOptions,
  type RecentLocationsOptions,
} from './reads.ts';
export { type RecordOptions, type RecordResult, recordLocation, recordLocations } from './record.ts';
export { LocationsRejectedError, type RejectedLocation } from './validate.ts';
export {
  type BatchFacts,
  createLocationWriter,
  type LocationWriter,
  LocationWriterClosedError,
  LocationWriterFullError,
  type LocationWriterOptions,
  type LocationWriterStats,
  type RetryFacts,
} from './writer/writer.ts';
