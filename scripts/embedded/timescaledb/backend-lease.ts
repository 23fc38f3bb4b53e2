// A session's lease of the shared backend: waiting for it, applying the session's settings, and cleaning up at its end.

import { AdvisoryLocks } from './advisory-locks.ts';
import { WaitedTooLong } from './backend-lock.ts';
import { InstanceCrashed } from './instance.ts';
import {
  errorResponse,
  type Fields,
  type Message,
  parameterStatus,
  quoteIdentifier,
  quoteLiteral,
} from './messages.ts';
import type { OtherSession } from './other-session.ts';
import { crashed, PostgresError } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';
import type { Traits } from './sql.ts';
import type { PreparedStatements } from './statements.ts';

/** In milliseconds. */
const waitBeforeNotice = 1_000;

export class BackendLease {
  readonly #session: SessionContext;
  readonly #statements: PreparedStatements;
  readonly advisory: AdvisoryLocks;
  /** Temporary tables and held cursors are the backend's: another session's end must leave them alone. */
  usesTemporary = false;
  #prepared = false;
  /** What statements of the session may have changed since `readBack`. */
  readonly #changed = new Set<'settings' | 'statements' | 'all' | 'advisory'>();
  #mayReadFiles: string | undefined;

  constructor(session: SessionContext, statements: PreparedStatements) {
    this.#session = session;
    this.#statements = statements;
    this.advisory = new AdvisoryLocks(session);
  }

  /**
   * `isIdle`: the backend is between messages and not in a failed transaction, so that it can be asked things.
   * @throws PostgresError 55P03 after the timeout, naming the session that has the backend.
   */
  async acquire(batch: Message[] = [], isIdle = true): Promise<void> {
    const { database, server, settings } = this.#session;
    const texts = batch.flatMap((message) => this.#statements.sqlOf(message));
    if (database.lock.owner !== this.#session) {
      const { lockTimeout } = settings;
      const { waitTimeout } = server.options;
      await this.advisory.awaitOthers(texts);
      try {
        const most = lockTimeout > 0 ? Math.min(lockTimeout, waitTimeout) : waitTimeout;
        await this.#wait(most);
      } catch (error) {
        if (!(error instanceof WaitedTooLong)) throw error;
        throw this.#waitedTooLong(lockTimeout);
      }
      await this.#makeOwn(texts);
    }
    if (isIdle) await this.advisory.guard(texts);
  }

  async #wait(most: number): Promise<void> {
    const notice = setTimeout(
      () => this.#session.tell(errorResponse(this.#describeWait())),
      waitBeforeNotice,
    );
    try {
      await this.#session.database.lock.acquire(this.#session, most);
    } finally {
      clearTimeout(notice);
    }
  }

  /** psql prints it, and our command line on a terminal. */
  #describeWait(): Fields {
    const { message, detail } = this.#waitedTooLong(0).fields;
    return { severity: 'NOTICE', code: '55P03', message: `waiting: ${message}`, ...(detail && { detail }) };
  }

  release(): void {
    this.#session.database.lock.release(this.#session);
  }

  /** What a statement may do beyond its transaction is looked at once it is over. */
  note(traits: Traits, bind?: Buffer): void {
    if (traits.settings) {
      this.#changed.add('settings');
      this.#session.settings.noticeCustomNames(traits.customNames);
      // set_config($1, …): the name is among the parameters.
      if (bind)
        this.#session.settings.noticeCustomNames(
          bind.toString('latin1').match(/[a-z_]\w*(?:\.[a-z_]\w*)+/gi) ?? [],
        );
    }
    if (traits.dropsStatements) this.#changed.add('statements');
    if (traits.discards) this.#changed.add('all');
    if (traits.advisory) this.#changed.add('advisory');
    if (traits.temporary) this.usesTemporary = true;
  }

  /** Between transactions: what the batch left behind. Returns the ParameterStatus messages that it causes. */
  async readBack(): Promise<Buffer[]> {
    const { database, settings } = this.#session;
    if (this.#changed.delete('statements')) {
      this.#statements.forget('all');
      database.statementsEpoch += 1;
      database.unnamedOwner = undefined;
    }
    if (this.#changed.delete('advisory')) await this.advisory.readBack();
    if (!this.#changed.delete('settings')) return [];
    const rows = await database.ask(settings.readBackSql());
    database.forget();
    const changed = settings.readBack(rows);
    if (this.#changed.delete('all')) settings.backToLogin();
    // What RESET took away of the startup packet's settings is put back before the next statement.
    await database.apply(settings);
    return [...changed].map(([name, value]) => parameterStatus(name, value));
  }

  /** COPY reads a file where the client's statement reads STDIN: a role needs a right for that, for as long. */
  async allowFiles(): Promise<void> {
    const { settings } = this.#session;
    if (settings.effectiveRole === 'postgres' || this.#mayReadFiles !== undefined) return;
    const role = quoteIdentifier(settings.effectiveRole);
    await this.#session.database.ask(settings.bySuperuser(`GRANT pg_read_server_files TO ${role}`));
    this.#mayReadFiles = role;
  }

  /** Not in a failed transaction: the grant goes with its rollback. */
  async disallowFiles(): Promise<void> {
    if (this.#mayReadFiles === undefined) return;
    const sql = `REVOKE pg_read_server_files FROM ${this.#mayReadFiles}`;
    this.#mayReadFiles = undefined;
    await this.#session.database.ask(this.#session.settings.bySuperuser(sql));
  }

  /** A cancelled statement took the instance with it: sessions whose state was in it cannot go on. */
  afterCrash(cancelled: boolean): void {
    for (const other of this.#session.database.sessions) {
      if (other === this.#session && cancelled) continue;
      const lost = !cancelled || other.lease.usesTemporary || other.lease.advisory.any;
      if (lost) other.terminate(crashed);
    }
    this.advisory.forget();
    this.usesTemporary = false;
    this.#mayReadFiles = undefined;
    this.#changed.delete('settings');
    this.release();
  }

  /** The session ended: rolls back, and takes away what was only its own. */
  async cleanUp(inTransaction: boolean): Promise<void> {
    const { database } = this.#session;
    const hold = database.lock.owner === this.#session;
    const closing = this.#statements.closeAll();
    const work = inTransaction || closing.length > 0 || this.advisory.any || this.usesTemporary;
    try {
      if (!work || !database.isOpen) return;
      if (!hold) await database.lock.acquire(this.#session, this.#session.server.options.waitTimeout);
      if (inTransaction) await database.ask('ROLLBACK');
      database.forget();
      await database.ask('SET SESSION AUTHORIZATION postgres');
      if (closing.length > 0) {
        const bytes = Buffer.concat([
          ...closing.map((message) => message.bytes),
          Buffer.from([0x53, 0, 0, 0, 4]),
        ]);
        await database.run(bytes, () => undefined);
      }
      await this.advisory.releaseAll();
      const others = [...database.sessions].some(
        (other) => other !== this.#session && other.lease.usesTemporary,
      );
      if (this.usesTemporary && !others) await database.ask('DISCARD TEMP');
    } catch (error) {
      // A crashed instance has nothing left to clean; whatever else it says, the session is over.
      if (!(error instanceof InstanceCrashed)) database.forget();
    } finally {
      this.advisory.forget();
      this.release();
    }
  }

  async #makeOwn(texts: string[]): Promise<void> {
    const { database, server, settings, startup } = this.#session;
    try {
      await database.open();
      if (!this.#prepared) {
        settings.addRoleDefaults(await this.#roleDefaults(), startup);
        this.#prepared = true;
      }
      if (texts.some((sql) => /pg_database/i.test(sql))) await server.listDatabasesIn(database);
      await database.apply(settings);
    } catch (error) {
      this.release();
      // Settings that cannot be applied: a server refuses the connection for them.
      if (error instanceof PostgresError)
        throw new PostgresError(error.fields.code, error.fields.message, { severity: 'FATAL' });
      throw error;
    }
  }

  async #roleDefaults(): Promise<Record<string, string>> {
    const { database, settings } = this.#session;
    const rows = await database.askAsSuperuser(
      `SELECT pg_catalog.unnest(setconfig) FROM pg_catalog.pg_db_role_setting
       WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
         AND setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ${quoteLiteral(settings.user)}))
       ORDER BY setrole <> 0, setdatabase <> 0`,
    );
    return Object.fromEntries(
      rows.map(([entry]) => {
        const [name = '', ...value] = (entry ?? '').split('=');
        return [name, value.join('=')];
      }),
    );
  }

  #waitedTooLong(lockTimeout: number): PostgresError {
    const { lock } = this.#session.database;
    if (lockTimeout > 0) return new PostgresError('55P03', 'canceling statement due to lock timeout');
    const { owner } = lock;
    const who = owner instanceof Object && 'settings' in owner ? (owner as OtherSession) : undefined;
    const name = who?.settings.get('application_name') || 'without application_name';
    return new PostgresError(
      '55P03',
      'the embedded database serves one transaction at a time, and another session holds it',
      {
        detail: who
          ? `Session ${who.id} (${name}) has held it since ${lock.since.toISOString()}.`
          : 'The server itself holds it.',
        hint: 'End that transaction. A client that waits in a transaction for another connection waits for itself.',
      },
    );
  }
}
