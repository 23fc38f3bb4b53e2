// Where TimescaleDB keeps the rows of a relation: a hypertable's chunks, an aggregate's own hypertable.
import { is } from 'drizzle-orm';
import { PgTable } from 'drizzle-orm/pg-core';
import type { DatabaseKey } from '../databases.ts';
import { TimescaleMissingError } from '../errors.ts';
import type { Database } from '../pool.ts';
import { nameOf, type Relation } from '../references/schema.ts';
import { quoteIdentifier } from '../sql/identifiers.ts';

/** What holds the rows of a table or view. */
export interface Storage {
  readonly schema: string;
  readonly name: string;
  /** Whether it is the hidden hypertable of a continuous aggregate. */
  readonly materialized: boolean;
}

/** A span of time of one chunk, as PostgreSQL writes it: a JavaScript date would drop microseconds. */
export interface ChunkRange {
  readonly column: string;
  readonly from: string;
  readonly to: string;
}

export const quoteStorage = ({ schema, name }: Storage): string =>
  `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

/**
 * A continuous aggregate is a view whose older rows are in a hypertable; its newest hours are
 * computed from raw rows and stored nowhere.
 * @throws TimescaleMissingError for a view that is none.
 */
export async function readStorage(db: Database, key: DatabaseKey, relation: Relation): Promise<Storage> {
  if (is(relation, PgTable)) return { schema: 'public', name: nameOf(relation), materialized: false };
  const { rows } = await db.primary.query<Storage>(
    `SELECT materialization_hypertable_schema AS schema, materialization_hypertable_name AS name, true AS materialized
     FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'public' AND view_name = $1`,
    [nameOf(relation)],
  );
  if (rows[0]) return rows[0];
  throw new TimescaleMissingError(
    `${nameOf(relation)} of ${db.name} is no continuous aggregate: run "npm run db:check -- ${key}".`,
  );
}

/** The chunks of a hypertable, oldest first; none for a relation that is not a hypertable. */
export async function readChunks(db: Database, { schema, name }: Storage): Promise<ChunkRange[]> {
  const { rows } = await db.primary.query<ChunkRange>(
    `SELECT primary_dimension AS column, range_start::text AS from, range_end::text AS to
     FROM timescaledb_information.chunks WHERE hypertable_schema = $1 AND hypertable_name = $2 ORDER BY range_start`,
    [schema, name],
  );
  return rows;
}
