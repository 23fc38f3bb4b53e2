// The session of one client: reads the client's messages in batches and runs each batch on the shared backend.
import { randomInt } from 'node:crypto';
import { BackendLease } from './backend-lease.ts';
import { BackendOutput, type OutputOptions } from './backend-output.ts';
import { findCopyFromStdin } from './copy.ts';
import type { EmbeddedDatabase } from './database.ts';
import { type DatabaseCommand, findDatabaseCommand, soleDatabaseCommand } from './database-commands.ts';
import { ClientGone, EmulatedCommands, insideTransaction } from './emulated-commands.ts';
import { InstanceCrashed } from './instance.ts';
import { MessageQueue } from './message-queue.ts';
import {
  commandComplete,
  type ErrorFields,
  errorResponse,
  flush,
  type Message,
  ProtocolViolation,
  query,
  readText,
  readyForQuery,
} from './messages.ts';
import { crashed, PostgresError, raiseSql } from './postgres-error.ts';
import type { SessionContext, SessionServer } from './session-context.ts';
import type { SessionSettings } from './settings.ts';
import { traitsOf } from './sql.ts';
import { type OutgoingMessage, PreparedStatements } from './statements.ts';

/** The connection to the client. */
export interface Client {
  write(bytes: Buffer): void;
  close(): void;
  onQueuedBytes(bytes: number): void;
}

export class ClientSession implements SessionContext {
  readonly id: number;
  /** Together with the id, identifies the session in a CancelRequest. */
  readonly secret = randomInt(1, 0x7fff_ffff);
  readonly server: SessionServer;
  readonly database: EmbeddedDatabase;
  readonly settings: SessionSettings;
  readonly statements: PreparedStatements;
  superuser = false;
  closed = false;
  /** This session's use of the shared backend. */
  readonly lease: BackendLease;
  readonly #client: Client;
  readonly #queue: MessageQueue;
  readonly #output: BackendOutput;
  readonly #emulatedCommands: EmulatedCommands;
  /** Messages were sent to the backend since its last ReadyForQuery. */
  #inQueryCycle = false;
  /** The server itself refused a batch: all messages up to the next Sync are ignored. */
  #ignoringTillSync = false;
  #isRunning = false;
  #cancelReason: string | undefined;

  constructor(server: SessionServer, database: EmbeddedDatabase, settings: SessionSettings, client: Client) {
    this.id = server.nextSessionId();
    this.server = server;
    this.database = database;
    this.settings = settings;
    this.#client = client;
    this.#queue = new MessageQueue((bytes) => client.onQueuedBytes(bytes));
    this.statements = new PreparedStatements(this);
    this.lease = new BackendLease(this, this.statements);
    this.#output = new BackendOutput(this.statements, (bytes) => client.write(bytes));
    this.#emulatedCommands = new EmulatedCommands({
      session: this,
      queue: this.#queue,
      send: (outgoing, output, copyData) => this.#send(outgoing, output, copyData),
      write: (bytes) => client.write(bytes),
    });
  }

  get inTransaction(): boolean {
    return this.#output.transactionStatus !== 'I';
  }

  receive(messages: Message[]): void {
    this.#queue.push(messages);
  }

  /** Stops reading messages. `run` then ends and cleans up after the session. */
  close(): void {
    this.closed = true;
    this.database.backendLock.cancelWait(this);
    this.#queue.close();
  }

  /** Logs the error, sends it to the client, and closes the session and its socket. */
  terminate(fields: ErrorFields): void {
    if (this.closed) return;
    this.server.logEnd(
      `session ${this.id} (${this.settings.get('application_name')})`,
      this.database.name,
      fields,
    );
    this.#client.write(errorResponse(fields));
    this.close();
    this.#client.close();
  }

  sendNotice(fields: ErrorFields): void {
    this.#client.write(errorResponse(fields));
  }

  /** Ends a wait, or kills the instance: a statement in WASM cannot be interrupted. The WAL recovers the data. */
  cancel(reason: string): void {
    if (this.database.backendLock.cancelWait(this) || !this.#isRunning) return;
    this.#cancelReason = reason;
    void this.database.kill(reason);
  }

  async run(): Promise<void> {
    try {
      const next = () => this.#queue.nextBatch((batch) => this.statements.mayCopy(batch));
      for (let batch = await next(); batch; batch = await next()) await this.#processBatch(batch);
    } catch (error) {
      if (!(error instanceof ClientGone)) {
        this.terminate({ severity: 'FATAL', code: 'XX000', message: String(error) });
      }
    } finally {
      this.close();
      await this.lease.cleanUp(this.inTransaction || this.#inQueryCycle);
      // After a Terminate message the socket is still open.
      this.#client.close();
    }
  }

  /** Runs SQL of the server itself before `run` is called. */
  async queryAsSuperuser(sql: string): Promise<(string | null)[][]> {
    await this.database.backendLock.acquire(this, this.server.options.backendLockTimeout);
    try {
      return await this.database.runSqlAsSuperuser(sql);
    } finally {
      this.database.backendLock.release(this);
    }
  }

  async #processBatch(batch: Message[]): Promise<void> {
    if (this.#ignoringTillSync) return this.#ignoreBatch(batch);
    try {
      const command = this.#commandWithoutBackend(batch);
      if (command) {
        await this.server.runDatabaseCommand(command, this);
        this.#client.write(Buffer.concat([commandComplete(command.tag), readyForQuery('I')]));
      } else {
        const isIdle = !this.#inQueryCycle && this.#output.transactionStatus !== 'E';
        await this.lease.acquire(batch, isIdle);
        if (isIdle && this.statements.mayCopy(batch)) await this.lease.grantFileAccess();
        await this.#runBatch(batch);
        if (this.#output.isReady) await this.#finishQueryCycle();
      }
    } catch (error) {
      if (error instanceof InstanceCrashed) await this.#afterCrash(batch);
      else if (error instanceof ProtocolViolation) {
        this.terminate({ severity: 'FATAL', code: '08P01', message: error.message });
      } else if (!(error instanceof PostgresError)) throw error;
      else if (error.fields.severity === 'FATAL') this.terminate(error.fields);
      else this.#ignoreBatch(batch, error.fields);
    }
    if (!this.inTransaction && !this.#inQueryCycle) this.lease.release();
  }

  async #runBatch(batch: Message[]): Promise<void> {
    const pending: OutgoingMessage[] = [];
    for (const { type, bytes } of batch) {
      if (type === 'Q') await this.#simpleQuery(bytes);
      else if (type === 'P') pending.push(this.statements.parse(bytes));
      else if (type === 'D') pending.push(...this.statements.describe(bytes));
      else if (type === 'C') pending.push(this.statements.close(bytes));
      else if (type === 'B') {
        const { outgoing, prepared } = this.statements.bind(bytes);
        pending.push(...outgoing);
        if (prepared) this.lease.noteEffects(prepared.traits, bytes);
      } else if (type === 'E') {
        const { outgoing, prepared } = this.statements.execute(bytes);
        if (!prepared?.copy && !prepared?.command) pending.push(outgoing);
        else {
          if (pending.length > 0) await this.#send([...pending.splice(0), { bytes: flush }]);
          if (!this.#output.skippingTillSync && prepared.copy)
            await this.#emulatedCommands.copyExtended(prepared.copy, outgoing);
          else if (!this.#output.skippingTillSync && prepared.command) {
            await this.#emulatedCommands.databaseCommandExtended(prepared.command, outgoing);
          }
        }
      } else pending.push({ bytes });
    }
    // Without a Sync or Flush the backend does not send its answer.
    const last = batch.at(-1)?.type;
    if (pending.length > 0) await this.#send(last === 'E' ? [...pending, { bytes: flush }] : pending);
  }

  async #simpleQuery(bytes: Buffer): Promise<void> {
    const { value: sql } = readText(bytes, 5);
    if (this.#output.skippingTillSync) {
      await this.#send([{ bytes }]);
      return;
    }
    this.statements.forget('unnamed');
    this.lease.noteEffects(traitsOf(sql));
    const copy = findCopyFromStdin(sql);
    const found = findDatabaseCommand(sql);
    if (typeof copy === 'object') await this.#emulatedCommands.copySimple(copy);
    else if (copy !== undefined) {
      const problem =
        copy === 'unreadable'
          ? 'the embedded server cannot read this COPY statement'
          : 'COPY FROM STDIN must be sent by itself to the embedded server, not among other statements';
      await this.#emulatedCommands.raiseSimple({ severity: 'ERROR', code: '0A000', message: problem });
    } else if (found) {
      await this.#emulatedCommands.raiseSimple(insideTransaction(found.command.tag));
    } else {
      const adapted = this.statements.rewriteForBackend(sql);
      await this.#send([{ bytes: adapted === sql ? bytes : query(adapted) }]);
    }
  }

  /** Returns the database command of a simple query outside of a transaction. It needs no backend. */
  #commandWithoutBackend([first]: Message[]): DatabaseCommand | undefined {
    if (first?.type !== 'Q' || this.inTransaction || this.#inQueryCycle) return undefined;
    return soleDatabaseCommand(readText(first.bytes, 5).value);
  }

  async #send(outgoing: OutgoingMessage[], options: OutputOptions = {}, copyData?: Buffer[]): Promise<void> {
    this.#inQueryCycle = true;
    this.#output.expect(outgoing, options);
    for (const { parse, bytes } of outgoing) {
      if (parse?.prepared.name === '') this.database.unnamedStatementOwner = this;
      else if (bytes[0] === 0x51) this.database.unnamedStatementOwner = undefined;
    }
    const timeout = this.settings.statementTimeout;
    const timer =
      timeout > 0
        ? setTimeout(() => this.cancel('canceling statement due to statement timeout'), timeout)
        : undefined;
    this.#isRunning = true;
    try {
      const bytes = Buffer.concat(outgoing.map((message) => message.bytes));
      await this.database.runMessages(bytes, (answer) => this.#output.receive(answer), copyData);
    } finally {
      this.#isRunning = false;
      clearTimeout(timer);
    }
  }

  /** Reads what the batch changed for the session, and then sends ReadyForQuery to the client. */
  async #finishQueryCycle(): Promise<void> {
    const { transactionStatus } = this.#output;
    this.statements.endQueryCycle();
    this.#inQueryCycle = false;
    if (transactionStatus !== 'E') await this.lease.revokeFileAccess();
    if (transactionStatus === 'I')
      for (const report of await this.lease.readBackEffects()) this.#client.write(report);
    this.#client.write(readyForQuery(transactionStatus));
  }

  /** Answers the batch with the error, if there is one, and ignores all messages up to the next Sync. */
  #ignoreBatch(batch: Message[], fields?: ErrorFields): void {
    if (fields) this.#client.write(errorResponse(fields));
    const last = batch.at(-1)?.type;
    this.#ignoringTillSync = last !== 'S' && (this.#ignoringTillSync || (last !== 'Q' && last !== 'F'));
    if (!this.#ignoringTillSync) this.#client.write(readyForQuery(this.#output.transactionStatus));
  }

  async #afterCrash(batch: Message[]): Promise<void> {
    const reason = this.#cancelReason;
    const wasInTransaction = this.inTransaction;
    this.#cancelReason = undefined;
    this.#output.transactionStatus = 'I';
    this.#output.skippingTillSync = false;
    this.#inQueryCycle = false;
    this.lease.afterCrash(reason !== undefined);
    if (this.closed) return;
    if (reason === undefined) {
      this.terminate(crashed);
      return;
    }
    if (wasInTransaction) {
      // The client's transaction continues as an aborted one, as in PostgreSQL.
      await this.lease.acquire(batch);
      await this.database.runSql('BEGIN');
      await this.database.runSql(raiseSql('57014', reason)).catch(() => undefined);
      this.#output.transactionStatus = 'E';
    }
    this.#ignoreBatch(batch, { severity: 'ERROR', code: '57014', message: reason });
  }
}
