// Runs a small load of reads and writes on every table, to measure how long a migration makes them wait.
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';

interface LongestWait {
  /** Milliseconds of the slowest statement. */
  ms: number;
  /** The table of the slowest statement; null if there were no statements. */
  table: string | null;
  statements: number;
}

export interface TrafficReport {
  readonly reads: LongestWait;
  readonly writes: LongestWait;
}

interface Table {
  schema: string;
  name: string;
  /** A column of the primary key, which a write sets to its own value. If null, a write only locks the table. */
  key: string | null;
}

const tablesQuery = `
  SELECT n.nspname AS schema, c.relname AS name, (
    SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = c.oid AND i.indisprimary AND a.attidentity = '' AND a.attgenerated = '') AS key
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema|drizzle|_timescaledb)'`;

/** SQLSTATEs for an undefined table, column or object: the migration has changed something that a statement uses. */
const changedCodes = ['42P01', '42703', '42704'];

/** Runs two loops until `stop` is called: one reads the tables in turn, the other writes to them. */
export async function startTraffic(pool: Pool): Promise<{ stop: () => Promise<TrafficReport> }> {
  const { rows: tables } = await pool.query<Table>(tablesQuery);
  let isRunning = true;
  const run = async (statementOf: (table: Table) => string): Promise<LongestWait> => {
    const longest: LongestWait = { ms: 0, table: null, statements: 0 };
    while (isRunning && tables.length > 0) {
      for (const table of tables) {
        const startedAt = performance.now();
        await pool.query(statementOf(table)).catch((error: { code?: string }) => {
          if (!changedCodes.includes(error.code ?? '')) throw error;
        });
        const ms = performance.now() - startedAt;
        longest.statements += 1;
        if (ms > longest.ms) Object.assign(longest, { ms, table: table.name });
        if (!isRunning) break;
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return longest;
  };
  const loads = Promise.all([run(read), run(write)]);
  // Marks a rejection as handled, because it may come before `stop` is called.
  loads.catch(() => undefined);
  return {
    stop: async () => {
      isRunning = false;
      const [reads, writes] = await loads;
      return { reads, writes };
    },
  };
}

const nameOf = ({ schema, name }: Table) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

const read = (table: Table): string => `SELECT * FROM ${nameOf(table)} LIMIT 1`;

function write(table: Table): string {
  if (table.key === null) return `DO $$ BEGIN LOCK TABLE ${nameOf(table)} IN ROW EXCLUSIVE MODE; END $$`;
  const key = quoteIdentifier(table.key);
  return `UPDATE ${nameOf(table)} SET ${key} = ${key} WHERE ${key} = (SELECT ${key} FROM ${nameOf(table)} LIMIT 1)`;
}
