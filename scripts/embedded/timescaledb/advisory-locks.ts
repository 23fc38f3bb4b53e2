// Advisory locks of sessions on a shared backend, which by itself would grant every one of them.
// The lock functions are replaced by guarded ones that know which keys the other sessions hold.
import { setTimeout as sleep } from 'node:timers/promises';
import { quoteLiteral } from './messages.ts';
import type { AdvisoryKeys, OtherSession } from './other-session.ts';
import { PostgresError } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';

const lockCall = /(?:\bpg_catalog\s*\.\s*)?\b(pg_(?:try_)?advisory_(?:xact_)?lock(?:_shared)?)(?=\s*\()/gi;

/** Points the lock functions of a text to the guarded ones; the result column keeps its name. */
export function guardAdvisoryLocks(sql: string): string {
  return /advisory/i.test(sql) ? sql.replaceAll(lockCall, 'pg_temp.$1') : sql;
}

export class AdvisoryLocks implements AdvisoryKeys {
  readonly #session: SessionContext;
  readonly keys = new Set<string>();

  constructor(session: SessionContext) {
    this.#session = session;
  }

  get any(): boolean {
    return this.keys.size > 0;
  }

  forget(): void {
    for (const key of this.keys) this.#session.database.advisoryKeys.delete(key);
    this.keys.clear();
  }

  /** Waits while another session holds any: which key a text means is not known before it runs. */
  async awaitOthers(texts: string[]): Promise<void> {
    if (!texts.some((sql) => /pg_advisory_(?:xact_)?lock/i.test(sql))) return;
    const { server, settings } = this.#session;
    const most = settings.lockTimeout > 0 ? settings.lockTimeout : server.options.waitTimeout;
    const deadline = Date.now() + most;
    while (this.#others().some((other) => other.lease.advisory.any)) {
      if (this.#session.closed) return;
      if (Date.now() > deadline) throw new PostgresError('55P03', 'canceling statement due to lock timeout');
      await sleep(20);
    }
  }

  /** Creates the guarded functions, again each time, because the keys are written into them. */
  async guard(texts: string[]): Promise<void> {
    if (!texts.some((sql) => /pg_(?:try_)?advisory_(?:xact_)?lock/i.test(sql))) return;
    const keys = this.#others().flatMap((other) => [...other.lease.advisory.keys]);
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
           $$BEGIN IF ${free} THEN PERFORM pg_catalog.${waiting}(${argument}); ELSE ${refusal} END IF; END$$`,
        );
      }
    }
    const { database, settings } = this.#session;
    await database.ask(settings.bySuperuser(functions.join('; ')));
  }

  /** What is new in pg_locks after a batch of this session is this session's. */
  async readBack(): Promise<void> {
    const { database } = this.#session;
    const rows = await database.ask(
      `SELECT classid || ':' || objid || ':' || objsubid || ':' || mode FROM pg_catalog.pg_locks
       WHERE locktype = 'advisory'`,
    );
    const held = new Set(rows.map(([key]) => key ?? ''));
    for (const key of held) if (!database.advisoryKeys.has(key)) this.keys.add(key);
    for (const key of this.keys) if (!held.has(key)) this.keys.delete(key);
    database.advisoryKeys = held;
  }

  async releaseAll(): Promise<void> {
    for (const key of this.keys) {
      const [high = '0', low = '0', kind = '1', mode = ''] = key.split(':');
      const shared = mode.startsWith('Share') ? '_shared' : '';
      const argument =
        kind === '1' ? `(${high}::bigint << 32) | ${low}::bigint` : `${high}::oid::int, ${low}::oid::int`;
      // Taken n times, it is released n times; one too many is false and ends the loop.
      await this.#session.database.ask(
        `SET client_min_messages = error;
         DO $$ BEGIN WHILE pg_advisory_unlock${shared}(${argument}) LOOP END LOOP; END $$`,
      );
    }
    this.forget();
  }

  #others(): OtherSession[] {
    return [...this.#session.database.sessions].filter((other) => other !== this.#session);
  }
}

/** The two forms of a key and how pg_locks writes them. */
const signatures = [
  ['bigint', "((($1 >> 32) & 4294967295) || ':' || ($1 & 4294967295) || ':1')"],
  ['int, int', "(($1::bigint & 4294967295) || ':' || ($2::bigint & 4294967295) || ':2')"],
] as const;

const refusal = `RAISE EXCEPTION USING ERRCODE = '55P03',
  MESSAGE = 'another session holds this advisory lock',
  HINT = 'The embedded database serves one transaction at a time: the holder cannot go on while this one waits.';`;
