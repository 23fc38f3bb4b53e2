// One database: its instance, which is opened when needed, and the state that its sessions share.
import { BackendLock } from './backend-lock.ts';
import type { DatabaseFolders } from './folders.ts';
import { Instance, InstanceCrashed } from './instance.ts';
import { type ErrorFields, MessageReader, query, quoteLiteral, readFields, readRow } from './messages.ts';
import { PostgresError } from './postgres-error.ts';
import type { SessionSettings } from './settings.ts';

/** The part of a session that its database and the other sessions use. */
export interface OtherSession {
  readonly id: number;
  readonly closed: boolean;
  readonly settings: SessionSettings;
  /** The state that the session has in the backend beyond its transactions. */
  readonly lease: {
    readonly usesTemporaryObjects: boolean;
    readonly advisoryLocks: { readonly keys: ReadonlySet<string> };
  };
  terminate(fields: ErrorFields): void;
}

export class EmbeddedDatabase {
  readonly name: string;
  readonly sessions = new Set<OtherSession>();
  readonly backendLock = new BackendLock();
  /** Incremented when the backend may have lost prepared statements. */
  statementsEpoch = 0;
  /** The session whose unnamed statement the backend has. */
  unnamedStatementOwner: OtherSession | undefined;
  /** All advisory locks of the backend, as in pg_locks. Each session stores which of them it owns. */
  advisoryLockKeys = new Set<string>();
  lastUsed = Date.now();
  readonly #folders: DatabaseFolders;
  readonly #onCrash: (reason: string) => void;
  #appliedFingerprint: string | undefined;
  /** The database names in pg_database, separated by zero bytes; undefined until `fillPgDatabase` has run. */
  #listedDatabases: string | undefined;
  #instance: Promise<Instance> | undefined;
  /** Resolves when the thread of a crashed or killed instance no longer writes to the folder. */
  #exited: Promise<void> = Promise.resolve();
  #generation = 0;
  #isRetired = false;

  /** @param onCrash is called with the reason if an instance ends without being closed. */
  constructor(name: string, folders: DatabaseFolders, onCrash: (reason: string) => void) {
    this.name = name;
    this.#folders = folders;
    this.#onCrash = onCrash;
  }

  get isOpen(): boolean {
    return this.#instance !== undefined;
  }

  /** Opens the instance if it is not open. The caller must own the backend lock. */
  async open(): Promise<Instance> {
    if (this.#isRetired && !this.#instance) throw new InstanceCrashed('the database is closed for good');
    this.#instance ??= this.#start();
    const opening = this.#instance;
    try {
      return await opening;
    } catch (error) {
      if (this.#instance === opening) this.#instance = undefined;
      throw error;
    }
  }

  /**
   * Call it before the last `close` or `kill`. A session that still cleans up after itself would otherwise open another
   * instance, whose thread nobody ends.
   */
  retire(): void {
    this.#isRetired = true;
  }

  /** Runs messages of the protocol. The caller must own the backend lock. @throws InstanceCrashed */
  async runMessages(
    messages: Buffer,
    onOutput: (bytes: Buffer) => void,
    copyData?: Uint8Array[],
  ): Promise<void> {
    const instance = await this.open();
    this.lastUsed = Date.now();
    await instance.exec(messages, onOutput, copyData);
    this.lastUsed = Date.now();
  }

  /** Runs SQL of the server between a session's messages. @throws PostgresError with the backend's error */
  async runSql(sql: string): Promise<(string | null)[][]> {
    const rows: (string | null)[][] = [];
    let failure: Record<string, string> | undefined;
    const reader = new MessageReader();
    this.unnamedStatementOwner = undefined;
    await this.runMessages(query(sql), (bytes) => {
      for (const { type, bytes: answer } of reader.push(bytes)) {
        if (type === 'D') rows.push(readRow(answer));
        if (type === 'E') failure ??= readFields(answer);
      }
    });
    if (failure) throw new PostgresError(failure.C ?? 'XX000', failure.M ?? 'unknown error');
    return rows;
  }

  /** Applies a session's settings to the backend, unless they are already applied. */
  async applySettings(settings: SessionSettings): Promise<void> {
    if (this.#appliedFingerprint === settings.fingerprint) return;
    this.#appliedFingerprint = undefined;
    await this.runSql(settings.applySql());
    this.#appliedFingerprint = settings.fingerprint;
  }

  /** Runs SQL of the server as superuser. Afterwards the settings of a session must be applied again. */
  async runSqlAsSuperuser(sql: string): Promise<(string | null)[][]> {
    this.#appliedFingerprint = undefined;
    await this.runSql('SET SESSION AUTHORIZATION postgres');
    return this.runSql(sql);
  }

  /** Makes the next `applySettings` apply all settings, because those of the backend may have changed. */
  forgetSettings(): void {
    this.#appliedFingerprint = undefined;
  }

  /** Adds the other databases, which have their own folders, to pg_database, so that clients can list them. */
  async fillPgDatabase(): Promise<void> {
    const names = this.#folders.names();
    const list = names.join('\0');
    if (this.#listedDatabases === list) return;
    const others = names.filter((name) => name !== this.name);
    const values = others.map((name, index) => `(${4_000_000_000 + index}, ${quoteLiteral(name)})`);
    const copies = `INSERT INTO pg_catalog.pg_database SELECT other.oid::oid, other.name, ${copiedColumns}
      FROM pg_catalog.pg_database, (VALUES ${values.join(', ')}) AS other (oid, name)
      WHERE datname = pg_catalog.current_database();`;
    await this.runSqlAsSuperuser(
      `BEGIN; DELETE FROM pg_catalog.pg_database WHERE oid >= 4000000000;
       ${values.length > 0 ? copies : ''} SELECT 1; COMMIT`,
    );
    this.#listedDatabases = list;
  }

  /** Shuts the instance down cleanly. The caller must own the backend lock. */
  async close(): Promise<void> {
    const instance = this.#instance;
    this.#instance = undefined;
    await (await instance?.catch(() => undefined))?.close();
  }

  /** Ends the instance at once. Messages that are running fail with InstanceCrashed. */
  async kill(reason: string): Promise<void> {
    const instance = this.#instance;
    this.#instance = undefined;
    await (await instance?.catch(() => undefined))?.kill(reason);
  }

  async #start(): Promise<Instance> {
    await this.#exited;
    const folder = this.#folders.path(this.name);
    const catalogName = this.#folders.catalogName(this.name);
    let instance: Instance;
    try {
      instance = await this.#launch(folder, catalogName);
    } catch (error) {
      if (catalogName === this.name) throw error;
      // An earlier start was interrupted after the rename below and before `setCatalogName`.
      instance = await this.#launch(folder, this.name);
    }
    this.statementsEpoch += 1;
    this.unnamedStatementOwner = undefined;
    this.#appliedFingerprint = undefined;
    this.#listedDatabases = undefined;
    this.advisoryLockKeys.clear();
    // Replaces shared_preload_libraries. Without LOAD, the first INSERT into a hypertable fails.
    await instance.exec(query("LOAD 'timescaledb'"));
    if (catalogName !== this.name) {
      // A copied folder still has the name of its template. ALTER DATABASE … RENAME changes the same row, but refuses
      // the current database. The transaction ends with a SELECT, because this build of PGlite does not refresh its
      // catalog caches after the last command of a transaction.
      const sql = `BEGIN; DELETE FROM pg_catalog.pg_database WHERE oid >= 4000000000;
        UPDATE pg_catalog.pg_database SET datname = ${quoteLiteral(this.name)}
        WHERE datname = pg_catalog.current_database(); SELECT 1; COMMIT`;
      await instance.exec(query(sql));
      await instance.exec(query('CHECKPOINT'));
      await this.#folders.setCatalogName(this.name);
    }
    return instance;
  }

  #launch(folder: string, catalogName: string): Promise<Instance> {
    const generation = ++this.#generation;
    return Instance.open(folder, catalogName, ({ message }, exited) => {
      this.#onCrash(message);
      this.#exited = exited;
      // The next instance may already be opening when this callback runs.
      if (generation !== this.#generation) return;
      this.#instance = undefined;
      this.#appliedFingerprint = undefined;
    });
  }
}

const copiedColumns = [
  'datdba, encoding, datlocprovider, datistemplate, datallowconn, dathasloginevt, datconnlimit, datfrozenxid',
  'datminmxid, dattablespace, datcollate, datctype, datlocale, daticurules, datcollversion, datacl',
].join(', ');
