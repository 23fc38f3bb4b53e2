// The type of a seed file's default export.
import type { Pool } from './pool.ts';

/**
 * Fills a database with development rows; must be idempotent. Seeds run in alphabetical order of their file names.
 * @returns how many rows it added, or nothing.
 */
export type SeedFunction = (pool: Pool) => Promise<number> | Promise<void>;
