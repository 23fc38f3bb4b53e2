// @atriz/database/tracking: write GPS points, read recent ones and hourly statistics.
export type { LocationInput } from './columns.ts';
export { recordLocation, recordLocations } from './events.ts';
export { getHourlyStats, getRecentLocations, type RecentLocationsOptions } from './queries.ts';
