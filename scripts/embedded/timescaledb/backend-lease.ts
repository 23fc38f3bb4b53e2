// A session's use of the shared backend: acquires the lock, applies the session's state, and cleans up.
import { quoteIdentifier } from '../../../src/sql/identifiers.ts';
import { AdvisoryLocks } from './advisory-locks.ts';
import { LockTimeout } from './backend-lock.ts';
import type { OtherSession } from './database.ts';
import { type ErrorFields, type Message, parameterStatus, quoteLiteral, sync } from './messages.ts';
import { crashed, PostgresError } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';
import type { StatementTraits } from './sql.ts';
import type { PreparedStatements } from './statements.ts';

/** What a batch may have changed in the backend beyond its transaction. */
type Effect = 'settings' | 'statements' | 'discard all' | 'advisory locks';

/** In milliseconds. */
const waitBeforeNotice = 1_000;

export class BackendLease {
  readonly #session: SessionContext;
  readonly #statements: PreparedStatements;
  readonly advisoryLocks: AdvisoryLocks;
  /** The session may have temporary tables or WITH HOLD cursors, which the end of another session must not drop. */
  usesTemporaryObjects = false;
  #hasRoleDefaults = false;
  /** Effects of the batch that `readBackEffects` has not read yet. */
  readonly #effects = new Set<Effect>();
  #fileReaderRole: string | undefined;

  constructor(session: SessionContext, statements: PreparedStatements) {
    this.#session = session;
    this.#statements = statements;
    this.advisoryLocks = new AdvisoryLocks(session);
  }

  /**
   * Acquires the backend for a batch. `isIdle`: no query cycle is open and no transaction has failed, so the server can
   * run SQL of its own.
   * @throws PostgresError 55P03 after the timeout; its detail names the owner unless the session has a lock_timeout.
   */
  async acquire(batch: Message[] = [], isIdle = true): Promise<void> {
    const { database, server, settings } = this.#session;
    const texts = batch.flatMap((message) => this.#statements.sqlOf(message));
    if (database.backendLock.owner !== this.#session) {
      const { lockTimeout } = settings;
      const { backendLockTimeout } = server.options;
      await this.advisoryLocks.waitForOtherSessions(texts);
      try {
        const timeout = lockTimeout > 0 ? Math.min(lockTimeout, backendLockTimeout) : backendLockTimeout;
        await this.#acquireWithNotice(timeout);
      } catch (error) {
        if (!(error instanceof LockTimeout)) throw error;
        throw this.#lockTimeoutError(lockTimeout);
      }
      await this.#prepareBackend(texts);
    }
    if (isIdle) await this.advisoryLocks.createGuardedFunctions(texts);
  }

  async #acquireWithNotice(timeout: number): Promise<void> {
    const notice = setTimeout(() => this.#session.sendNotice(this.#waitNotice()), waitBeforeNotice);
    try {
      await this.#session.database.backendLock.acquire(this.#session, timeout);
    } finally {
      clearTimeout(notice);
    }
  }

  /** psql prints this notice, and so does our command line on a terminal. */
  #waitNotice(): ErrorFields {
    const { message, detail } = this.#lockTimeoutError(0).fields;
    return { severity: 'NOTICE', code: '55P03', message: `waiting: ${message}`, ...(detail && { detail }) };
  }

  release(): void {
    this.#session.database.backendLock.release(this.#session);
  }

  /** Records what a statement may change beyond its transaction, for `readBackEffects`. */
  noteEffects(traits: StatementTraits, bind?: Buffer): void {
    if (traits.changesSettings) {
      this.#effects.add('settings');
      this.#session.settings.addCustomNames(traits.customNames);
      // The parameters of set_config($1, …) contain the name.
      if (bind)
        this.#session.settings.addCustomNames(
          bind.toString('latin1').match(/[a-z_]\w*(?:\.[a-z_]\w*)+/gi) ?? [],
        );
    }
    if (traits.dropsStatements) this.#effects.add('statements');
    if (traits.discardsAll) this.#effects.add('discard all');
    if (traits.usesAdvisoryLocks) this.#effects.add('advisory locks');
    if (traits.usesTemporaryObjects) this.usesTemporaryObjects = true;
  }

  /** Reads what the batch changed, and returns the ParameterStatus messages. Must not run in a transaction. */
  async readBackEffects(): Promise<Buffer[]> {
    const { database, settings } = this.#session;
    if (this.#effects.delete('statements')) {
      this.#statements.forget('all');
      database.statementsEpoch += 1;
      database.unnamedStatementOwner = undefined;
    }
    if (this.#effects.delete('advisory locks')) await this.advisoryLocks.readBack();
    if (!this.#effects.delete('settings')) return [];
    const rows = await database.runSql(settings.readBackSql());
    database.forgetSettings();
    const changed = settings.readBack(rows);
    if (this.#effects.delete('discard all')) settings.resetAuthorization();
    // RESET and DISCARD ALL also reset the settings of the startup packet: apply them again.
    await database.applySettings(settings);
    return [...changed].map(([name, value]) => parameterStatus(name, value));
  }

  /** COPY FROM STDIN runs as COPY from a file, which requires pg_read_server_files for this query cycle. */
  async grantFileAccess(): Promise<void> {
    const { settings } = this.#session;
    if (settings.currentUser === 'postgres' || this.#fileReaderRole !== undefined) return;
    const role = quoteIdentifier(settings.currentUser);
    await this.#session.database.runSql(settings.asSuperuser(`GRANT pg_read_server_files TO ${role}`));
    this.#fileReaderRole = role;
  }

  /** Must not be called in a failed transaction, which accepts no SQL. Call it after the rollback. */
  async revokeFileAccess(): Promise<void> {
    if (this.#fileReaderRole === undefined) return;
    const sql = `REVOKE pg_read_server_files FROM ${this.#fileReaderRole}`;
    this.#fileReaderRole = undefined;
    await this.#session.database.runSql(this.#session.settings.asSuperuser(sql));
  }

  /**
   * Call it when the instance has ended. A crash ends all sessions. A cancelled statement of this session ends only
   * the other sessions that had temporary objects or advisory locks.
   */
  afterCrash(cancelled: boolean): void {
    for (const other of this.#session.database.sessions) {
      if (other === this.#session && cancelled) continue;
      const lost = !cancelled || other.lease.usesTemporaryObjects || other.lease.advisoryLocks.keys.size > 0;
      if (lost) other.terminate(crashed);
    }
    this.advisoryLocks.clear();
    this.usesTemporaryObjects = false;
    this.#fileReaderRole = undefined;
    this.#effects.delete('settings');
    this.release();
  }

  /** Call it when the session has ended. Rolls back, and removes the session's state from the backend. */
  async cleanUp(inTransaction: boolean): Promise<void> {
    const { database } = this.#session;
    const closing = this.#statements.closeAll();
    const hasLocks = this.advisoryLocks.keys.size > 0;
    const hasWork = inTransaction || closing.length > 0 || hasLocks || this.usesTemporaryObjects;
    try {
      if (!hasWork || !database.isOpen) return;
      await database.backendLock.acquire(this.#session, this.#session.server.options.backendLockTimeout);
      database.forgetSettings();
      if (inTransaction) await database.runSql('ROLLBACK');
      await database.runSql('SET SESSION AUTHORIZATION postgres');
      if (closing.length > 0) {
        await database.runMessages(Buffer.concat([...closing, sync]), () => undefined);
      }
      await this.advisoryLocks.releaseAll();
      const others = [...database.sessions].some(
        (other) => other !== this.#session && other.lease.usesTemporaryObjects,
      );
      if (this.usesTemporaryObjects && !others) await database.runSql('DISCARD TEMP');
    } catch {
      // After a crash nothing is left to clean up. Other errors are ignored, because the session has ended.
    } finally {
      this.advisoryLocks.clear();
      this.release();
    }
  }

  async #prepareBackend(texts: string[]): Promise<void> {
    const { database, settings } = this.#session;
    try {
      await database.open();
      if (!this.#hasRoleDefaults) {
        settings.addRoleDefaults(await this.#readRoleDefaults());
        this.#hasRoleDefaults = true;
      }
      if (texts.some((sql) => /pg_database/i.test(sql))) await database.fillPgDatabase();
      await database.applySettings(settings);
    } catch (error) {
      this.release();
      // PostgreSQL refuses a connection with invalid settings, so the error is FATAL.
      if (error instanceof PostgresError)
        throw new PostgresError(error.fields.code, error.fields.message, { severity: 'FATAL' });
      throw error;
    }
  }

  async #readRoleDefaults(): Promise<Record<string, string>> {
    const { database, settings } = this.#session;
    const rows = await database.runSqlAsSuperuser(
      `SELECT pg_catalog.unnest(setconfig) FROM pg_catalog.pg_db_role_setting
       WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
         AND setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ${quoteLiteral(settings.sessionUser)}))
       ORDER BY setrole <> 0, setdatabase <> 0`,
    );
    return Object.fromEntries(
      rows.map(([entry]) => {
        const [name = '', ...value] = (entry ?? '').split('=');
        return [name, value.join('=')];
      }),
    );
  }

  #lockTimeoutError(lockTimeout: number): PostgresError {
    const { backendLock } = this.#session.database;
    if (lockTimeout > 0) return new PostgresError('55P03', 'canceling statement due to lock timeout');
    const owner = backendLock.owner;
    const session = owner instanceof Object && 'settings' in owner ? (owner as OtherSession) : undefined;
    const name = session?.settings.get('application_name') || 'without application_name';
    return new PostgresError(
      '55P03',
      'the embedded database serves one transaction at a time, and another session owns the backend',
      {
        detail: session
          ? `Session ${session.id} (${name}) has owned it since ${backendLock.ownedSince.toISOString()}.`
          : 'The server itself owns it.',
        hint: 'End that transaction. A client that waits in a transaction for another connection waits for itself.',
      },
    );
  }
}
