// Observes a migration while it runs: how long it takes, which locks it holds, and what it writes.
import { setTimeout as sleep } from 'node:timers/promises';
import type { ObserveStatement } from '../../src/migrations/apply.ts';
import type { Database, Pool } from '../../src/pool.ts';
import { blocksReads, blocksWrites, type LockMode, stronger } from './lock-modes.ts';

/** The effects of a migration on one relation that existed before it. Times are in milliseconds. */
export interface RelationEffect {
  /** Name as in SQL, without the schema public. Partitions and chunks count as their parent. */
  readonly relation: string;
  readonly strongestLock: LockMode;
  /** How long applications could not write to the relation. */
  readonly blocksWritesMs: number;
  /** How long applications could not read the relation either. */
  readonly blocksReadsMs: number;
  /** Bytes of the new files of the relation and its indexes; 0 if the relation was not rewritten. */
  readonly rewrittenBytes: number;
  readonly indexesBuilt: readonly string[];
}

export interface Observation {
  readonly durationMs: number;
  readonly relations: readonly RelationEffect[];
  readonly rowsChanged: number;
  /** WAL that the whole server wrote meanwhile, in bytes: an upper bound for the WAL of the migration. */
  readonly walBytes: number;
  /** Largest increase of the database's size, in bytes. */
  readonly diskBytes: number;
}

interface Relation {
  oid: string;
  name: string;
  kind: string;
  /** The table of an index, or the parent of a partition or chunk. */
  parent: string | null;
  filenode: string | null;
}

interface Snapshot {
  readonly relations: ReadonlyMap<string, Relation>;
  readonly rowsChanged: number;
}

/** A lock and the time for which it was held. `from` and `to` are values of `performance.now()`. */
interface Held {
  readonly oid: string;
  readonly mode: LockMode;
  readonly from: number;
  readonly to: number;
}

// Names are qualified, because a migration may set search_path. Chunks and partitions count as their parent.
const relationsQuery = `
  SELECT c.oid::text, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relkind::text AS kind,
    coalesce(x.indrelid, i.inhparent)::text AS parent, pg_catalog.pg_relation_filenode(c.oid)::text AS filenode
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN pg_catalog.pg_index x ON x.indexrelid OPERATOR(pg_catalog.=) c.oid
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) c.oid AND i.inhseqno OPERATOR(pg_catalog.=) 1
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'drizzle')
    AND n.nspname NOT IN ('_timescaledb_catalog', '_timescaledb_config', '_timescaledb_cache')
    AND c.relkind IN ('r', 'p', 'm', 'v', 'f', 'i', 'I')`;

const rowsQuery = `
  SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid)
    OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_updated(c.oid)
    OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)), 0)::float8 AS rows
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND n.nspname NOT IN ('pg_catalog', 'drizzle')`;

const locksQuery = `
  SELECT relation::text AS oid, mode FROM pg_catalog.pg_locks
  WHERE pid OPERATOR(pg_catalog.=) $1 AND granted AND locktype OPERATOR(pg_catalog.=) 'relation'`;

/** Relations with a lower oid are PostgreSQL's own. */
const firstNormalOid = 16_384;

/** Maximum time in milliseconds for which the observer holds a snapshot, in case the statement locks no relation. */
const mostSnapshotMs = 500;

/** Milliseconds between two reads of the locks, for a statement that runs outside of a transaction. */
const pollMs = 5;

/** Observes one migration. */
export class Observer {
  readonly #pool: Pool;
  readonly #inTransaction: boolean;
  readonly #held: Held[] = [];
  readonly #rewritten = new Map<string, number>();
  readonly #indexes = new Map<string, string[]>();
  #startedAt = performance.now();
  #before: Snapshot | undefined;
  #startWal = 0;
  #startBytes = 0;
  #peakBytes = 0;
  #rowsChanged = 0;

  /**
   * @param pool opens other sessions in the same database.
   * @param inTransaction whether the whole file is one transaction, which holds its locks until it commits.
   */
  constructor(pool: Pool, inTransaction: boolean) {
    this.#pool = pool;
    this.#inTransaction = inTransaction;
  }

  readonly observe: ObserveStatement = async (run, { session, isInTransaction }) => {
    const pid = await backendPid(session);
    const before = await readSnapshot(session);
    if (!this.#before) await this.#begin(before);
    const from = performance.now();
    const polled = isInTransaction ? undefined : await this.#poll(pid);
    try {
      await run();
    } finally {
      await polled?.stop();
    }
    if (isInTransaction) {
      const to = this.#inTransaction ? Number.POSITIVE_INFINITY : performance.now();
      for (const lock of await readLocks(session, pid)) this.#held.push({ ...lock, from, to });
    }
    const after = await readSnapshot(session);
    this.#rowsChanged += Math.max(0, after.rowsChanged - before.rowsChanged);
    await this.#compare(session, before, after);
    this.#peakBytes = Math.max(this.#peakBytes, await databaseBytes(this.#pool));
  };

  /** Call it when the migration is committed. */
  async finish(): Promise<Observation> {
    const endedAt = performance.now();
    return {
      durationMs: endedAt - this.#startedAt,
      relations: this.#effects(endedAt),
      rowsChanged: this.#rowsChanged,
      walBytes: this.#before ? (await writtenWal(this.#pool)) - this.#startWal : 0,
      diskBytes: Math.max(0, this.#peakBytes - this.#startBytes),
    };
  }

  async #begin(before: Snapshot): Promise<void> {
    this.#before = before;
    this.#startBytes = await databaseBytes(this.#pool);
    this.#startWal = await writtenWal(this.#pool);
    this.#startedAt = performance.now();
  }

  async #poll(pid: number): Promise<{ stop: () => Promise<void> }> {
    const session = this.#pool.dedicated();
    const seen = new Map<string, Held>();
    const read = async () => {
      const at = performance.now();
      for (const lock of await readLocks(session, pid)) {
        const name = `${lock.oid} ${lock.mode}`;
        seen.set(name, { ...lock, from: seen.get(name)?.from ?? at - pollMs, to: at });
      }
    };
    // CREATE INDEX CONCURRENTLY waits until this snapshot ends, so it holds its lock long enough to be seen.
    const begin = async () => {
      await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      await read();
    };
    await begin().catch(async (error) => {
      await session.close();
      throw error;
    });
    let isRunning = true;
    let hasSnapshot = true;
    const begun = performance.now();
    const loop = async () => {
      while (isRunning) {
        await sleep(pollMs);
        await read();
        const isSeen = [...seen.values()].some(({ oid }) => Number(oid) >= firstNormalOid);
        if (hasSnapshot && (isSeen || performance.now() - begun > mostSnapshotMs)) {
          hasSnapshot = false;
          await session.query('COMMIT');
        }
      }
    };
    const ended = loop();
    // `stop` reports the error.
    ended.catch(() => undefined);
    return {
      stop: async () => {
        isRunning = false;
        await ended.finally(() => session.close());
        this.#held.push(...seen.values());
      },
    };
  }

  async #compare(session: Database, before: Snapshot, after: Snapshot): Promise<void> {
    for (const { oid, kind, filenode, parent, name } of after.relations.values()) {
      const old = before.relations.get(oid);
      const root = rootOf(oid, after.relations);
      if (old && ['r', 'm'].includes(kind) && filenode !== old.filenode && filenode !== null) {
        const bytes = await totalBytes(session, oid);
        this.#rewritten.set(root, (this.#rewritten.get(root) ?? 0) + bytes);
      }
      const isNewIndex = !old && ['i', 'I'].includes(kind);
      if (isNewIndex && parent === root && this.#before?.relations.has(root)) {
        this.#indexes.set(root, [...(this.#indexes.get(root) ?? []), shortName(name)]);
      }
    }
  }

  #effects(endedAt: number): RelationEffect[] {
    const known = this.#before?.relations ?? new Map<string, Relation>();
    const locks = this.#held
      .filter(({ oid }) => known.has(oid))
      .map((lock) => ({ ...lock, root: rootOf(lock.oid, known), to: Math.min(lock.to, endedAt) }));
    return [...new Set(locks.map(({ root }) => root))]
      .map((root) => {
        const own = locks.filter((lock) => lock.root === root);
        const heldFor = (counts: (mode: LockMode) => boolean) =>
          covered(own.filter(({ mode }) => counts(mode)));
        return {
          relation: shortName(known.get(root)?.name ?? root),
          strongestLock: own.map(({ mode }) => mode).reduce(stronger),
          blocksWritesMs: heldFor(blocksWrites),
          blocksReadsMs: heldFor(blocksReads),
          rewrittenBytes: this.#rewritten.get(root) ?? 0,
          indexesBuilt: this.#indexes.get(root) ?? [],
        };
      })
      .sort(
        (one, other) => other.blocksWritesMs - one.blocksWritesMs || (one.relation < other.relation ? -1 : 1),
      );
  }
}

const shortName = (name: string): string => name.replace(/^public\./, '');

/** Milliseconds in which at least one of the locks was held. */
function covered(locks: readonly Held[]): number {
  let [total, until] = [0, Number.NEGATIVE_INFINITY];
  for (const { from, to } of [...locks].sort((one, other) => one.from - other.from)) {
    total += Math.max(0, to - Math.max(from, until));
    until = Math.max(until, to);
  }
  return total;
}

/** Name for all relations with compressed rows, because finding their hypertable depends on TimescaleDB's version. */
const compressedChunks = 'compressed chunks';
const isCompressed = ({ name }: Relation): boolean =>
  /^_timescaledb_internal\.(compress_hyper_|_compressed_hypertable_|_hyper_\w+_compressed$)/.test(name);

/** Finds the table of an index, the hypertable of a chunk or the parent of a partition; else the relation itself. */
function rootOf(oid: string, relations: ReadonlyMap<string, Relation>): string {
  const relation = relations.get(oid);
  if (relation && isCompressed(relation)) return compressedChunks;
  const parent = relation?.parent;
  return parent && relations.has(parent) ? rootOf(parent, relations) : oid;
}

async function readSnapshot(session: Database): Promise<Snapshot> {
  const relations = await session.query<Relation>(relationsQuery);
  const changed = await session.query<{ rows: number }>(rowsQuery);
  return {
    relations: new Map(relations.rows.map((relation) => [relation.oid, relation])),
    rowsChanged: changed.rows[0]?.rows ?? 0,
  };
}

async function readLocks(db: Database, pid: number): Promise<{ oid: string; mode: LockMode }[]> {
  return (await db.query<{ oid: string; mode: LockMode }>(locksQuery, [pid])).rows;
}

const backendPid = (session: Database) => readNumber(session, 'pg_catalog.pg_backend_pid()');

const totalBytes = (session: Database, oid: string) =>
  readNumber(session, 'pg_catalog.pg_total_relation_size($1::oid)::float8', [oid]);

const databaseBytes = (pool: Pool) => readNumber(pool, 'pg_database_size(current_database())::float8');

/** Bytes of WAL that the server has written since it was created. */
const writtenWal = (pool: Pool) =>
  readNumber(pool, "pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8");

async function readNumber(db: Database, expression: string, parameters: unknown[] = []): Promise<number> {
  const { rows } = await db.query<{ value: number }>(`SELECT ${expression} AS value`, parameters);
  return rows[0]?.value ?? 0;
}
