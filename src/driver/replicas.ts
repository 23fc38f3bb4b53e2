// Read replicas: chooses the server of each read.
/** WAL position of the primary at one moment. */
interface Sample {
  /** In bytes. */
  readonly position: number;
  /** Number of writes of this pool that had ended before the sample. */
  readonly writes: number;
  /** performance.now() when the sample was requested. */
  readonly at: number;
}

/** The part of a server's client that is used here. */
interface Server {
  ask<Row extends object>(text: string): Promise<readonly Row[]>;
  close(timeoutMs: number): Promise<void>;
}

interface Clients<Client> {
  readonly primary: Client;
  /** Client with read-only sessions on the primary: a function that writes fails there. */
  readonly reader: Client | undefined;
  readonly replicas: readonly Client[];
}

interface Replica<Client> {
  readonly client: Client;
  /** The newest sample whose position the replica has replayed. */
  seen: Sample | undefined;
  /** performance.now() when the unanswered check was sent; undefined if there is none. */
  askedAt: number | undefined;
}

// If the WAL position is right behind a page header, no record ends there, and replay would not reach it before the
// next write. So subtract the header.
const positionSql = `SELECT (position - CASE WHEN position % 8192 = 24 THEN 24
    WHEN position % pg_size_bytes(current_setting('wal_segment_size')) = 40 THEN 40 ELSE 0 END)::float8 AS position
  FROM (SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS position) AS log`;
const replayedSql = `SELECT pg_is_in_recovery() AS standby,
  coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::float8 AS replayed`;

/** Milliseconds between checks: `eagerMs` while a replica may lack a write of this pool, else at most `calmMs`. */
const eagerMs = 50;
const calmMs = 1_000;
/** A replica that does not answer for this many milliseconds gets no reads. */
const silentMs = 2_000;
const mostSamples = 256;

/**
 * Checks the servers only when there are reads, so no timer keeps the process alive. A read never waits for a check:
 * reads go to the primary until a check has shown that a replica is up to date.
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
   * @param mayBeLate If false, no replica is chosen.
   * @returns the next suitable replica in turn; else the read-only client of the primary, or undefined if none exists.
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

  /** Call it when a statement that may have written has ended, even with an error: later reads must see its changes. */
  wrote(): void {
    this.#writes += 1;
  }

  /** Call it when a read failed on a replica: the replica gets no reads until it has answered a check. */
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
      // The primary is unreachable, which its own queries report. Without new samples, replicas soon count as late.
    } finally {
      this.#isSampling = false;
    }
  }

  async #ask(replica: Replica<Client>): Promise<void> {
    replica.askedAt = performance.now();
    try {
      const [row] = await replica.client.ask<{ standby: boolean; replayed: number }>(replayedSql);
      // A promoted replica is not a copy of this primary any more.
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
