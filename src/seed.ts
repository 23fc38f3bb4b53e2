// The type of a seed file's default export.
import type { Pool } from './pool.ts';

/**
 * Fills a database with development rows. Runs in alphabetical order of the file names; must be idempotent.
 * @returns how many rows it added, or nothing.
 */
export type SeedFunction = (pool: Pool) => Promise<number> | Promise<void>;
