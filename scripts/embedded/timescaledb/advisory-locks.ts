// Advisory locks of sessions that share a backend. PostgreSQL would grant all of them, because a backend does not
// conflict with itself. Guarded functions, which know the keys of other sessions, replace the lock functions.
import { setTimeout as sleep } from 'node:timers/promises';
import type { OtherSession } from './database.ts';
import { quoteLiteral } from './messages.ts';
import { PostgresError } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';

const lockCall = /(?:\bpg_catalog\s*\.\s*)?\b(pg_(?:try_)?advisory_(?:xact_)?lock(?:_shared)?)(?=\s*\()/gi;

/** Replaces calls of the lock functions by calls of the guarded functions. Result columns keep their names. */
export function guardAdvisoryLocks(sql: string): string {
  return /advisory/i.test(sql) ? sql.replaceAll(lockCall, 'pg_temp.$1') : sql;
}

export class AdvisoryLocks {
  readonly #session: SessionContext;
  /** classid:objid:objsubid:mode, as in pg_locks. */
  readonly keys = new Set<string>();

  constructor(session: SessionContext) {
    this.#session = session;
  }

  clear(): void {
    for (const key of this.keys) this.#session.database.advisoryLockKeys.delete(key);
    this.keys.clear();
  }

  /** Waits while another session owns any advisory lock. Which key a statement needs is not known before it runs. */
  async waitForOtherSessions(texts: string[]): Promise<void> {
    if (!texts.some((sql) => /pg_advisory_(?:xact_)?lock/i.test(sql))) return;
    const { server, settings } = this.#session;
    const timeout = settings.lockTimeout > 0 ? settings.lockTimeout : server.options.backendLockTimeout;
    const deadline = Date.now() + timeout;
    while (this.#otherSessions().some((other) => other.lease.advisoryLocks.keys.size > 0)) {
      if (this.#session.closed) return;
      if (Date.now() > deadline) throw new PostgresError('55P03', 'canceling statement due to lock timeout');
      await sleep(20);
    }
  }

  /** Creates the guarded functions. They contain the keys of other sessions, so each batch creates them again. */
  async createGuardedFunctions(texts: string[]): Promise<void> {
    if (!texts.some((sql) => /pg_(?:try_)?advisory_(?:xact_)?lock/i.test(sql))) return;
    const keys = this.#otherSessions().flatMap((other) => [...other.lease.advisoryLocks.keys]);
    const taken = quoteLiteral(`{${keys.map((key) => key.split(':').slice(0, 3).join(':')).join(',')}}`);
    const functions: string[] = [];
    for (const [types, key] of signatures) {
      for (const suffix of ['lock', 'lock_shared', 'xact_lock', 'xact_lock_shared']) {
        const free = `NOT (${key} = ANY (${taken}::text[]))`;
        const attempt = `pg_try_advisory_${suffix}`;
        const waiting = `pg_advisory_${suffix}`;
        const argument = types === 'bigint' ? '$1' : '$1, $2';
        functions.push(
          `CREATE OR REPLACE FUNCTION pg_temp.${attempt}(${types}) RETURNS boolean LANGUAGE plpgsql AS
           $$BEGIN RETURN ${free} AND pg_catalog.${attempt}(${argument}); END$$`,
          `CREATE OR REPLACE FUNCTION pg_temp.${waiting}(${types}) RETURNS void LANGUAGE plpgsql AS
           $$BEGIN IF ${free} THEN PERFORM pg_catalog.${waiting}(${argument}); ELSE ${raiseLockNotAvailable} END IF; END$$`,
        );
      }
    }
    const { database, settings } = this.#session;
    await database.runSql(settings.asSuperuser(functions.join('; ')));
  }

  /** Reads pg_locks after a batch of this session: locks that are new belong to this session. */
  async readBack(): Promise<void> {
    const { database } = this.#session;
    const rows = await database.runSql(
      `SELECT classid || ':' || objid || ':' || objsubid || ':' || mode FROM pg_catalog.pg_locks
       WHERE locktype = 'advisory'`,
    );
    const present = new Set(rows.map(([key]) => key ?? ''));
    for (const key of present) if (!database.advisoryLockKeys.has(key)) this.keys.add(key);
    for (const key of this.keys) if (!present.has(key)) this.keys.delete(key);
    database.advisoryLockKeys = present;
  }

  async releaseAll(): Promise<void> {
    for (const key of this.keys) {
      const [high = '0', low = '0', kind = '1', mode = ''] = key.split(':');
      const shared = mode.startsWith('Share') ? '_shared' : '';
      const argument =
        kind === '1' ? `(${high}::bigint << 32) | ${low}::bigint` : `${high}::oid::int, ${low}::oid::int`;
      // A lock may have been acquired several times. The function returns false once the lock is released.
      await this.#session.database.runSql(
        `SET client_min_messages = error;
         DO $$ BEGIN WHILE pg_advisory_unlock${shared}(${argument}) LOOP END LOOP; END $$`,
      );
    }
    this.clear();
  }

  #otherSessions(): OtherSession[] {
    return [...this.#session.database.sessions].filter((other) => other !== this.#session);
  }
}

/** The argument types of the lock functions, and an SQL expression for the key as pg_locks shows it. */
const signatures = [
  ['bigint', "((($1 >> 32) & 4294967295) || ':' || ($1 & 4294967295) || ':1')"],
  ['int, int', "(($1::bigint & 4294967295) || ':' || ($2::bigint & 4294967295) || ':2')"],
] as const;

const raiseLockNotAvailable = `RAISE EXCEPTION USING ERRCODE = '55P03',
  MESSAGE = 'another session owns this advisory lock',
  HINT = 'The embedded database serves one transaction at a time: the owner of the lock cannot continue while this session waits.';`;
