// A PostgreSQL server for development and tests: TimescaleDB in WASM, one instance per database, on loopback.
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { loadModule } from 'libpg-query';
import { verifierOf } from '../../access/scram-verifier.ts';
import { PortTaken } from '../ports.ts';
import { accept } from './connection.ts';
import { EmbeddedDatabase, type OtherSession } from './database.ts';
import type { DatabaseCommand } from './database-commands.ts';
import { DatabaseFolders, maintenanceDatabase } from './folders.ts';
import type { ErrorFields } from './messages.ts';
import { PostgresError, shuttingDown } from './postgres-error.ts';
import type { ClientSession } from './session.ts';
import type { SessionContext } from './session-context.ts';

export interface TimescaleServerOptions {
  folder: string;
  port: number;
  /** How long a client waits for the backend lock before it receives an error, in milliseconds. */
  backendLockTimeout: number;
  /** Called with each line of the log, which says why a session, a login or an instance ended. */
  onLog: (line: string) => void;
  onProgress: (message: string) => void;
}

/** In milliseconds. An instance without clients is closed after this time, because it takes about 300 MB. */
const idleTimeout = 60_000;

export class TimescaleServer {
  readonly options: TimescaleServerOptions;
  /** The password is always `postgres`, because the URLs contain it. ALTER ROLE does not change it. */
  readonly superuserVerifier = verifierOf('postgres');
  readonly #folders: DatabaseFolders;
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();
  readonly #databases = new Map<string, EmbeddedDatabase>();
  readonly #sessions = new Map<number, ClientSession>();
  readonly #idleTimer: NodeJS.Timeout;
  #commands: Promise<unknown> = Promise.resolve();
  #lastSessionId = 0;
  stopping = false;

  private constructor(options: TimescaleServerOptions, folders: DatabaseFolders) {
    this.options = options;
    this.#folders = folders;
    this.#listener = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      accept(socket, this);
    });
    this.#idleTimer = setInterval(() => void this.#closeIdle(), 5_000).unref();
  }

  static async start(options: TimescaleServerOptions): Promise<TimescaleServer> {
    const [folders] = await Promise.all([
      DatabaseFolders.open(options.folder, options.onProgress),
      loadModule(),
    ]);
    const server = new TimescaleServer(options, folders);
    server.#listener.listen(options.port, '127.0.0.1');
    try {
      await once(server.#listener, 'listening');
    } catch (error) {
      clearInterval(server.#idleTimer);
      throw (error as NodeJS.ErrnoException).code === 'EADDRINUSE' ? new PortTaken() : error;
    }
    return server;
  }

  /** Ends the clients with 57P01 and closes all instances. A busy instance is killed after 5 seconds. */
  async stop(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    clearInterval(this.#idleTimer);
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    for (const session of this.#sessions.values()) session.terminate(shuttingDown);
    for (const socket of this.#sockets) if (!socket.destroyed) socket.destroySoon();
    await this.#commands.catch(() => undefined);
    await Promise.all([...this.#databases.values()].map((database) => this.#closeWithin(database, 5_000)));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Returns undefined if the database does not exist. */
  database(name: string): EmbeddedDatabase | undefined {
    if (!this.#folders.has(name)) return undefined;
    let database = this.#databases.get(name);
    if (!database) {
      database = new EmbeddedDatabase(name, this.#folders, (reason) =>
        this.options.onLog(`database "${name}" ended: ${reason}`),
      );
      this.#databases.set(name, database);
    }
    return database;
  }

  /** Logs why a session ended or a login was refused, because the client may not have read the error. */
  logEnd(session: string, database: string, { code, message, detail }: ErrorFields): void {
    this.options.onLog(
      [`${session} of database "${database}" ended: ${code} ${message}`, detail].filter(Boolean).join('. '),
    );
  }

  nextSessionId(): number {
    return ++this.#lastSessionId;
  }

  add(session: ClientSession): void {
    this.#sessions.set(session.id, session);
    session.database.sessions.add(session);
  }

  remove(session: ClientSession): void {
    this.#sessions.delete(session.id);
    session.database.sessions.delete(session);
    session.database.lastUsed = Date.now();
  }

  /** Handles a CancelRequest. A wrong key is ignored, as in PostgreSQL. */
  cancel(id: number, secret: number): void {
    const session = this.#sessions.get(id);
    if (session?.secret === secret) session.cancel('canceling statement due to user request');
  }

  /** Runs database commands one after the other. @throws PostgresError */
  runDatabaseCommand(command: DatabaseCommand, session: SessionContext): Promise<void> {
    const done = this.#commands.then(async () => {
      if (!session.superuser)
        throw new PostgresError('42501', `permission denied to ${command.tag.toLowerCase()}`);
      if (command.tag === 'CREATE DATABASE') await this.#create(command, session);
      else if (command.tag === 'DROP DATABASE') await this.#drop(command, session);
      else throw new PostgresError('0A000', 'the embedded server does not rename databases');
    });
    this.#commands = done.catch(() => undefined);
    return done;
  }

  async #create(
    command: DatabaseCommand & { tag: 'CREATE DATABASE' },
    session: SessionContext,
  ): Promise<void> {
    const { name, template, owner } = command;
    if (this.#folders.has(name)) throw new PostgresError('42P04', `database "${name}" already exists`);
    if (owner !== undefined && owner !== maintenanceDatabase) {
      throw new PostgresError('0A000', 'the embedded server creates databases for the owner postgres only', {
        hint: 'Each database has its own roles here: create the role in the new database and grant it what it needs.',
      });
    }
    if (template === undefined || /^template[01]$/.test(template)) {
      await this.#folders.create(name, undefined);
      return;
    }
    const source = this.database(template);
    if (!source) throw new PostgresError('3D000', `template database "${template}" does not exist`);
    refuseWhileUsed(source, session, 'source ');
    const isOwner = source.backendLock.owner === session;
    const lockOwner = isOwner ? session : {};
    await source.backendLock.acquire(lockOwner, this.options.backendLockTimeout);
    try {
      await source.close();
      await this.#folders.create(name, template);
    } finally {
      if (!isOwner) source.backendLock.release(lockOwner);
    }
  }

  async #drop(command: DatabaseCommand & { tag: 'DROP DATABASE' }, session: SessionContext): Promise<void> {
    const { name, ifExists, force } = command;
    const database = this.database(name);
    if (!database) {
      const problem = `database "${name}" does not exist`;
      if (!ifExists) throw new PostgresError('3D000', problem);
      session.sendNotice({ severity: 'NOTICE', code: '00000', message: `${problem}, skipping` });
      return;
    }
    if (database === session.database)
      throw new PostgresError('55006', 'cannot drop the currently open database');
    if (name === maintenanceDatabase)
      throw new PostgresError('42501', 'the maintenance database cannot be dropped here');
    if (force) for (const other of database.sessions) other.terminate(shuttingDown);
    else refuseWhileUsed(database, session, '');
    database.retire();
    await database.kill('the database was dropped');
    this.#databases.delete(name);
    await this.#folders.drop(name);
  }

  async #closeIdle(): Promise<void> {
    for (const database of this.#databases.values()) {
      const idle = Date.now() - database.lastUsed >= idleTimeout;
      if (!idle || !database.isOpen || database.sessions.size > 0 || database.backendLock.owner) continue;
      const owner = {};
      await database.backendLock.acquire(owner, 0);
      await database.close().finally(() => database.backendLock.release(owner));
    }
  }

  /** Closes the instance. If it is still busy after this time, kills it, which rolls back its transaction. */
  async #closeWithin(database: EmbeddedDatabase, milliseconds: number): Promise<void> {
    const owner = {};
    database.retire();
    try {
      await database.backendLock.acquire(owner, milliseconds);
      await database.close();
    } catch {
      await database.kill('the server stops');
    }
  }
}

function refuseWhileUsed(database: EmbeddedDatabase, session: OtherSession, role: 'source ' | ''): void {
  const others = [...database.sessions].filter((other) => other !== session && !other.closed).length;
  if (others === 0) return;
  throw new PostgresError('55006', `${role}database "${database.name}" is being accessed by other users`, {
    detail:
      others === 1
        ? 'There is 1 other session using the database.'
        : `There are ${others} other sessions using the database.`,
  });
}
