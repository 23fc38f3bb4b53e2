// A session's turn on the shared backend: getting it, making the backend its own, and leaving no trace behind.

import { AdvisoryLocks } from './advisory.ts';
import { InstanceCrashed } from './instance.ts';
import { type Message, parameterStatus, quoteIdentifier, quoteLiteral } from './messages.ts';
import type { Peer } from './peer.ts';
import { crashed, PostgresError } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';
import type { Traits } from './sql.ts';
import type { PreparedStatements } from './statements.ts';
import { WaitedTooLong } from './turns.ts';

export class Turn {
  readonly #session: SessionContext;
  readonly #statements: PreparedStatements;
  readonly advisory: AdvisoryLocks;
  /** Temporary tables and held cursors are the backend's: another session's end must leave them alone. */
  usesTemporary = false;
  #prepared = false;
  #settingsUnknown = false;
  #statementsDropped = false;
  #discarded = false;
  #advisoryUsed = false;
  #mayReadFiles: string | undefined;

  constructor(session: SessionContext, statements: PreparedStatements) {
    this.#session = session;
    this.#statements = statements;
    this.advisory = new AdvisoryLocks(session);
  }

  /**
   * `isIdle`: the backend is between messages and not in a failed transaction, so that it can be asked things.
   * @throws PostgresError 55P03 after the timeout, saying who holds the turn.
   */
  async take(batch: Message[] = [], isIdle = true): Promise<void> {
    const { database, server, settings } = this.#session;
    const texts = batch.flatMap((message) => this.#statements.sqlOf(message));
    if (database.turns.holder !== this.#session) {
      const { lockTimeout } = settings;
      const { turnTimeout } = server.options;
      await this.advisory.awaitOthers(texts);
      try {
        const most = lockTimeout > 0 ? Math.min(lockTimeout, turnTimeout) : turnTimeout;
        await database.turns.take(this.#session, most);
      } catch (error) {
        if (!(error instanceof WaitedTooLong)) throw error;
        throw this.#waitedTooLong(lockTimeout);
      }
      await this.#makeOwn(texts);
    }
    if (isIdle) await this.advisory.guard(texts);
  }

  give(): void {
    this.#session.database.turns.give(this.#session);
  }

  /** What a statement may do beyond its transaction is looked at once it is over. */
  note(traits: Traits, bind?: Buffer): void {
    if (traits.settings) {
      this.#settingsUnknown = true;
      this.#session.settings.noticeCustomNames(traits.customNames);
      // set_config($1, …): the name is among the parameters.
      if (bind)
        this.#session.settings.noticeCustomNames(
          bind.toString('latin1').match(/[a-z_]\w*(?:\.[a-z_]\w*)+/gi) ?? [],
        );
    }
    if (traits.dropsStatements) this.#statementsDropped = true;
    if (traits.discards) this.#discarded = true;
    if (traits.advisory) this.#advisoryUsed = true;
    if (traits.temporary) this.usesTemporary = true;
  }

  /** Between transactions: what the batch left behind. Returns the ParameterStatus messages that it causes. */
  async readBack(): Promise<Buffer[]> {
    const { database, settings } = this.#session;
    if (this.#statementsDropped) {
      this.#statementsDropped = false;
      this.#statements.forget('all');
      database.statementsEpoch += 1;
      database.unnamedOwner = undefined;
    }
    if (this.#advisoryUsed) {
      this.#advisoryUsed = false;
      await this.advisory.readBack();
    }
    if (!this.#settingsUnknown) return [];
    this.#settingsUnknown = false;
    const rows = await database.ask(settings.readBackSql());
    database.forget();
    const changed = settings.readBack(rows);
    if (this.#discarded) settings.backToLogin();
    this.#discarded = false;
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
      const lost = !cancelled || other.turn.usesTemporary || other.turn.advisory.any;
      if (lost) other.terminate(crashed);
    }
    this.advisory.forget();
    this.usesTemporary = false;
    this.#mayReadFiles = undefined;
    this.#settingsUnknown = false;
    this.give();
  }

  /** The session ended: rolls back, and takes away what was only its own. */
  async cleanUp(inTransaction: boolean): Promise<void> {
    const { database } = this.#session;
    const hold = database.turns.holder === this.#session;
    const closing = this.#statements.closeAll();
    const work = inTransaction || closing.length > 0 || this.advisory.any || this.usesTemporary;
    try {
      if (!work || !database.isOpen) return;
      if (!hold) await database.turns.take(this.#session, this.#session.server.options.turnTimeout);
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
        (other) => other !== this.#session && other.turn.usesTemporary,
      );
      if (this.usesTemporary && !others) await database.ask('DISCARD TEMP');
    } catch (error) {
      // A crashed instance has nothing left to clean; whatever else it says, the session is over.
      if (!(error instanceof InstanceCrashed)) database.forget();
    } finally {
      this.advisory.forget();
      this.give();
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
      this.give();
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
    const { turns } = this.#session.database;
    if (lockTimeout > 0) return new PostgresError('55P03', 'canceling statement due to lock timeout');
    const holder = turns.holder;
    const who = holder instanceof Object && 'settings' in holder ? (holder as Peer) : undefined;
    const name = who?.settings.get('application_name') || 'without application_name';
    return new PostgresError(
      '55P03',
      'the embedded database serves one transaction at a time, and another session holds it',
      {
        detail: who
          ? `Session ${who.id} (${name}) has held it since ${turns.since.toISOString()}.`
          : 'The server itself holds it.',
        hint: 'End that transaction. A client that waits in a transaction for another connection waits for itself.',
      },
    );
  }
}
