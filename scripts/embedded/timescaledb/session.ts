// One client's session: takes its messages in batches, waits for the backend, and runs them there.

import { BackendLease } from './backend-lease.ts';
import { WaitCancelled } from './backend-lock.ts';
import { BackendOutput, type OutputOptions } from './backend-output.ts';
import { findCopyFromStdin } from './copy.ts';
import type { EmbeddedDatabase } from './database.ts';
import { type DatabaseCommand, findDatabaseCommand, soleDatabaseCommand } from './database-commands.ts';
import { ClientGone, EmulatedCommands, insideTransaction } from './emulated-commands.ts';
import { InstanceCrashed } from './instance.ts';
import { MessageQueue } from './message-queue.ts';
import {
  commandComplete,
  errorResponse,
  type Fields,
  flush,
  type Message,
  ProtocolViolation,
  query,
  readText,
  readyForQuery,
} from './messages.ts';
import { cancelled, crashed, PostgresError, raiseSql } from './postgres-error.ts';
import type { SessionContext, SessionOptions, SessionServer } from './session-context.ts';
import type { SessionSettings } from './settings.ts';
import { traitsOf } from './sql.ts';
import { type Outgoing, PreparedStatements } from './statements.ts';

export class ClientSession implements SessionContext {
  readonly id: number;
  readonly secret: number;
  readonly server: SessionServer;
  readonly database: EmbeddedDatabase;
  readonly startup: Record<string, string>;
  readonly settings: SessionSettings;
  readonly statements: PreparedStatements;
  superuser = false;
  closed = false;
  /** What this session does to the backend beyond its transactions. */
  readonly lease: BackendLease;
  readonly #write: (bytes: Buffer) => void;
  readonly #hangUp: () => void;
  readonly #queue: MessageQueue;
  readonly #output: BackendOutput;
  readonly #emulated: EmulatedCommands;
  /** Messages went out since the last ReadyForQuery. */
  #inCycle = false;
  /** The server itself refused a batch: everything up to the next Sync is ignored. */
  #ignoring = false;
  #running = false;
  #cancelled: string | undefined;

  constructor(options: SessionOptions) {
    this.id = options.id;
    this.secret = options.secret;
    this.server = options.server;
    this.database = options.database;
    this.startup = options.startup;
    this.settings = options.settings;
    this.#write = options.write;
    this.#hangUp = options.hangUp;
    this.#queue = new MessageQueue(options.onLoad);
    this.statements = new PreparedStatements(this, this.database);
    this.lease = new BackendLease(this, this.statements);
    this.#output = new BackendOutput(
      {
        write: (bytes) => this.#write(bytes),
        parsed: (prepared) => this.statements.confirm(prepared),
      },
      this.statements.prefix,
    );
    this.#emulated = new EmulatedCommands({
      queue: this.#queue,
      send: (outgoing, output, copyData) => this.#send(outgoing, output, copyData),
      write: (bytes) => this.#write(bytes),
      inTransaction: () => this.#output.status !== 'I',
      carryOut: (command) => this.server.carryOut(command, this),
    });
  }

  receive(messages: Message[]): void {
    this.#queue.push(messages);
  }

  /** The socket is gone; `run` ends and cleans up behind the session. */
  close(): void {
    this.closed = true;
    this.database.lock.cancel(this);
    this.#queue.close();
  }

  /** Says why, and hangs up. */
  terminate(fields: Fields): void {
    if (this.closed) return;
    this.server.logEnd(
      `session ${this.id} (${this.settings.get('application_name')})`,
      this.database.name,
      fields,
    );
    this.#write(errorResponse(fields));
    this.close();
    this.#hangUp();
  }

  /** Sends a notice between the answers. */
  tell(bytes: Buffer): void {
    this.#write(bytes);
  }

  /** A running statement cannot be interrupted in WASM: the instance ends, and recovers from its log. */
  cancel(reason: string): void {
    if (this.database.lock.cancel(this) || !this.#running) return;
    this.#cancelled = reason;
    void this.database.end(reason);
  }

  async run(): Promise<void> {
    try {
      const next = () => this.#queue.nextBatch((batch) => this.statements.mayCopy(batch));
      for (let batch = await next(); batch; batch = await next()) await this.#process(batch);
    } catch (error) {
      if (!(error instanceof ClientGone)) {
        this.terminate({ severity: 'FATAL', code: 'XX000', message: String(error) });
      }
    } finally {
      this.close();
      await this.lease.cleanUp(this.#output.status !== 'I' || this.#inCycle);
      // A Terminate message closes the session; the socket follows.
      this.#hangUp();
    }
  }

  /** Before the session runs: asks the backend about a role. */
  async lookUpRole<Role>(sql: string, read: (rows: (string | null)[][]) => Role): Promise<Role> {
    await this.database.lock.acquire(this, this.server.options.waitTimeout);
    try {
      return read(await this.database.askAsSuperuser(sql));
    } finally {
      this.database.lock.release(this);
    }
  }

  async #process(batch: Message[]): Promise<void> {
    if (this.#ignoring) return this.#ignore(batch);
    try {
      const command = this.#commandWithoutBackend(batch);
      if (command) await this.#runCommand(command);
      else {
        const isIdle = !this.#inCycle && this.#output.status !== 'E';
        await this.lease.acquire(batch, isIdle);
        if (isIdle && this.statements.mayCopy(batch)) await this.lease.allowFiles();
        await this.#execute(batch);
        if (this.#output.ready) await this.#settle();
      }
    } catch (error) {
      if (error instanceof InstanceCrashed) await this.#afterCrash(batch);
      else if (error instanceof WaitCancelled) this.#refuse(batch, cancelled(undefined));
      else if (error instanceof PostgresError) this.#refuse(batch, error.fields);
      else if (error instanceof ProtocolViolation) {
        this.terminate({ severity: 'FATAL', code: '08P01', message: error.message });
      } else throw error;
    }
    if (this.#output.status === 'I' && !this.#inCycle) this.lease.release();
  }

  async #execute(batch: Message[]): Promise<void> {
    const pending: Outgoing[] = [];
    for (const { type, bytes } of batch) {
      if (type === 'Q') await this.#simple(bytes);
      else if (type === 'P') pending.push(...this.statements.parse(bytes));
      else if (type === 'D') pending.push(...this.statements.describe(bytes));
      else if (type === 'C') pending.push(...this.statements.close(bytes));
      else if (type === 'B') {
        const { outgoing, prepared } = this.statements.bind(bytes);
        pending.push(...outgoing);
        if (prepared) this.lease.note(prepared.traits, bytes);
      } else if (type === 'E') {
        const { outgoing, prepared } = this.statements.execute(bytes);
        if (!prepared?.copy && !prepared?.command) pending.push(outgoing);
        else {
          if (pending.length > 0) await this.#send([...pending.splice(0), { bytes: flush }]);
          if (!this.#output.skipping && prepared.copy)
            await this.#emulated.copyExtended(prepared.copy, outgoing);
          else if (!this.#output.skipping && prepared.command) {
            await this.#emulated.commandExtended(prepared.command, outgoing);
          }
        }
      } else pending.push({ bytes });
    }
    // Without a Sync or Flush from the client, the backend would keep its answer.
    const last = batch.at(-1)?.type;
    if (pending.length > 0) await this.#send(last === 'E' ? [...pending, { bytes: flush }] : pending);
  }

  async #simple(bytes: Buffer): Promise<void> {
    const { value: sql } = readText(bytes, 5);
    if (this.#output.skipping) {
      await this.#send([{ bytes }]);
      return;
    }
    this.statements.forget('unnamed');
    this.lease.note(traitsOf(sql));
    const copy = findCopyFromStdin(sql);
    const command = findDatabaseCommand(sql);
    if (typeof copy === 'object') await this.#emulated.copySimple(copy);
    else if (copy !== undefined) {
      const problem =
        copy === 'unreadable'
          ? 'the embedded server cannot read this COPY statement'
          : 'COPY FROM STDIN must be sent by itself to the embedded server, not among other statements';
      await this.#emulated.raiseSimple({ severity: 'ERROR', code: '0A000', message: problem });
    } else if (command) {
      const tag = 'tag' in command ? command.tag : command.severalStatements;
      await this.#emulated.raiseSimple(insideTransaction(tag));
    } else {
      const adapted = this.statements.adapt(sql);
      await this.#send([{ bytes: adapted === sql ? bytes : query(adapted) }]);
    }
  }

  /** Outside a transaction a command about databases needs no backend at all. */
  #commandWithoutBackend([first]: Message[]): DatabaseCommand | undefined {
    return this.#output.status === 'I' && !this.#inCycle ? soleDatabaseCommand(first) : undefined;
  }

  async #runCommand(command: DatabaseCommand): Promise<void> {
    await this.server.carryOut(command, this);
    this.#write(Buffer.concat([commandComplete(command.tag), readyForQuery('I')]));
  }

  async #send(outgoing: Outgoing[], options: OutputOptions = {}, copyData?: Buffer[]): Promise<void> {
    this.#inCycle = true;
    this.#output.expect(outgoing, options);
    for (const { parse, bytes } of outgoing) {
      if (parse?.prepared.name === '') this.database.unnamedOwner = this;
      else if (bytes[0] === 0x51) this.database.unnamedOwner = undefined;
    }
    const timeout = this.settings.statementTimeout;
    const timer =
      timeout > 0
        ? setTimeout(() => this.cancel('canceling statement due to statement timeout'), timeout)
        : undefined;
    this.#running = true;
    try {
      const bytes = Buffer.concat(outgoing.map((message) => message.bytes));
      await this.database.run(bytes, (answer) => this.#output.receive(answer), copyData);
    } finally {
      this.#running = false;
      clearTimeout(timer);
    }
  }

  /** After ReadyForQuery: what the batch changed for the session is read, and then the client hears of the end. */
  async #settle(): Promise<void> {
    const { status } = this.#output;
    this.statements.endCycle();
    this.#inCycle = false;
    if (status !== 'E') await this.lease.disallowFiles();
    if (status === 'I') for (const report of await this.lease.readBack()) this.#write(report);
    this.#write(readyForQuery(status));
  }

  /** An error before anything of the batch ran. */
  #refuse(batch: Message[], fields: Fields): void {
    if (fields.severity === 'FATAL') this.terminate(fields);
    else this.#ignore(batch, fields);
  }

  #ignore(batch: Message[], fields?: Fields): void {
    if (fields) this.#write(errorResponse(fields));
    const last = batch.at(-1)?.type;
    this.#ignoring = last !== 'S' && (this.#ignoring || (last !== 'Q' && last !== 'F'));
    if (!this.#ignoring) this.#write(readyForQuery(this.#output.status));
  }

  async #afterCrash(batch: Message[]): Promise<void> {
    const reason = this.#cancelled;
    const wasInTransaction = this.#output.status !== 'I';
    this.#cancelled = undefined;
    this.#output.status = 'I';
    this.#output.skipping = false;
    this.#inCycle = false;
    this.lease.afterCrash(reason !== undefined);
    if (this.closed) return;
    if (reason === undefined) {
      this.terminate(crashed);
      return;
    }
    if (wasInTransaction) {
      // The client believes itself in a transaction: it gets an aborted one, as from any server.
      await this.lease.acquire(batch);
      await this.database.ask('BEGIN');
      await this.database.ask(raiseSql('57014', reason)).catch(() => undefined);
      this.#output.status = 'E';
    }
    this.#refuse(batch, cancelled(reason));
  }
}
