// Read replicas: which of them may answer a read now, and which reads none of them may.
/** What a pool knows of the primary's log at one moment. */
interface Sample {
  /** Bytes. */
  readonly position: number;
  /** Writes of this pool that had ended before. */
  readonly writes: number;
  /** performance.now(), when it was asked for. */
  readonly at: number;
}

/** One server: the part of its client that is asked here. */
interface Server {
  ask<Row extends object>(text: string): Promise<readonly Row[]>;
  close(timeoutMs: number): Promise<void>;
}

interface Clients<Client> {
  readonly primary: Client;
  /** To the primary too, whose transactions only read: a function that writes fails there, and is known by that. */
  readonly reader: Client | undefined;
  readonly replicas: readonly Client[];
}

interface Replica<Client> {
  readonly client: Client;
  /** The newest sample that it has replayed. */
  seen: Sample | undefined;
  /** When the look that still waits for its answer began. */
  askedAt: number | undefined;
}

// Behind a page's header with nothing after it the log's position is one that no record ends at: replay
// would not reach it before the next write.
const positionSql = `SELECT (position - CASE WHEN position % 8192 = 24 THEN 24
    WHEN position % pg_size_bytes(current_setting('wal_segment_size')) = 40 THEN 40 ELSE 0 END)::float8 AS position
  FROM (SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS position) AS log`;
const replayedSql = `SELECT pg_is_in_recovery() AS standby,
  coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::float8 AS replayed`;

/** Milliseconds between two looks: while a write of this pool may be missing there, and else. */
const eagerMs = 50;
const calmMs = 1_000;
/** A replica that says nothing for this long is passed over, in milliseconds. */
const silentMs = 2_000;
const mostSamples = 256;

/**
 * Looks only when there are reads, and never makes one wait: until a look has shown that a replica may
 * answer, reads go to the primary. So no timer keeps the process alive.
 */
export class Replicas<Client extends Server> {
  readonly #primary: Client;
  readonly #reader: Client | undefined;
  readonly #replicas: readonly Replica<Client>[];
  readonly #maxLagMs: number;
  #samples: Sample[] = [];
  #writes = 0;
  #isSampling = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #next = 0;
  #isClosed = false;

  constructor({ primary, reader, replicas }: Clients<Client>, maxLagMs: number) {
    this.#primary = primary;
    this.#reader = reader;
    this.#replicas = replicas.map((client) => ({ client, seen: undefined, askedAt: undefined }));
    this.#maxLagMs = maxLagMs;
  }

  /**
   * Where a read goes: to the fit replicas in turns, else to the primary (undefined: no client of its own for reads).
   * @param mayBeLate false: to the primary.
   */
  choose(mayBeLate: boolean): Client | undefined {
    if (!mayBeLate) return this.#reader;
    const fit = this.#replicas.filter((replica) => this.#isFit(replica));
    const isStale = this.#replicas.some(({ seen }) => seen && seen.writes < this.#writes);
    const wait = isStale ? eagerMs : Math.min(calmMs, this.#maxLagMs / 4);
    if (!this.#isSampling && !this.#isClosed && performance.now() - this.#lookedAt >= wait) void this.#look();
    if (fit.length === 0) return this.#reader;
    this.#next = (this.#next + 1) % fit.length;
    return fit[this.#next]?.client;
  }

  /** A statement that may have written has ended, however it did: reads after it must see it. */
  wrote(): void {
    this.#writes += 1;
  }

  /** A read failed there: nothing goes to it until it has answered again. */
  distrust(client: Client): void {
    for (const replica of this.#replicas) if (replica.client === client) replica.seen = undefined;
  }

  async close(timeoutMs: number): Promise<void> {
    this.#isClosed = true;
    const clients = this.#replicas.map(({ client }) => client);
    if (this.#reader) clients.push(this.#reader);
    await Promise.all(clients.map((client) => client.close(timeoutMs)));
  }

  #isFit({ seen, askedAt }: Replica<Client>): boolean {
    const now = performance.now();
    if (!seen || seen.writes < this.#writes || now - seen.at > this.#maxLagMs) return false;
    return askedAt === undefined || now - askedAt < silentMs;
  }

  async #look(): Promise<void> {
    this.#isSampling = true;
    this.#lookedAt = performance.now();
    try {
      const sample = { writes: this.#writes, at: performance.now() };
      const [row] = await this.#primary.ask<{ position: number }>(positionSql);
      this.#samples = [...this.#samples, { ...sample, position: row?.position ?? 0 }].slice(-mostSamples);
      for (const replica of this.#replicas) if (replica.askedAt === undefined) void this.#ask(replica);
    } catch {
      // The primary is unreachable, which its own queries report. What is known of the replicas only gets older.
    } finally {
      this.#isSampling = false;
    }
  }

  async #ask(replica: Replica<Client>): Promise<void> {
    replica.askedAt = performance.now();
    try {
      const [row] = await replica.client.ask<{ standby: boolean; replayed: number }>(replayedSql);
      // Promoted, it is no longer a copy of this primary.
      replica.seen = row?.standby
        ? this.#samples.findLast(({ position }) => position <= row.replayed)
        : undefined;
    } catch {
      replica.seen = undefined;
    } finally {
      replica.askedAt = undefined;
    }
  }
}
