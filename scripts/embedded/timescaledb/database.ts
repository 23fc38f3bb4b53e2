// One database: its instance, opened when needed, and what its sessions share.

import { BackendLock } from './backend-lock.ts';
import type { DatabaseFolders } from './folders.ts';
import { Instance } from './instance.ts';
import { MessageReader, query, quoteLiteral, readFields, readRow } from './messages.ts';
import type { OtherSession } from './other-session.ts';
import { PostgresError } from './postgres-error.ts';
import type { SessionSettings } from './settings.ts';

export class EmbeddedDatabase {
  name: string;
  readonly sessions = new Set<OtherSession>();
  readonly lock = new BackendLock<object>();
  /** Counts up whenever the backend may have lost prepared statements. */
  statementsEpoch = 0;
  /** Whose unnamed statement the backend has. */
  unnamedOwner: OtherSession | undefined;
  /** The pg_database rows are as old as this; `listed` of the server is the present age. */
  databasesListed = -1;
  /** Advisory locks as pg_locks shows them: one backend has them all, the sessions remember their own. */
  advisoryKeys = new Set<string>();
  lastUsed = Date.now();
  /** Why the instance was ended on purpose, if it was. */
  ended: string | undefined;
  readonly #folders: DatabaseFolders;
  readonly #onEnd: (reason: string) => void;
  #applied: string | undefined;
  #instance: Promise<Instance> | undefined;
  /** The thread of an instance that crashed or was ended: two at once would write to the same folder. */
  #exited: Promise<void> = Promise.resolve();
  #generation = 0;

  /** @param onEnd hears why an instance ended without being closed. */
  constructor(name: string, folders: DatabaseFolders, onEnd: (reason: string) => void) {
    this.name = name;
    this.#folders = folders;
    this.#onEnd = onEnd;
  }

  get isOpen(): boolean {
    return this.#instance !== undefined;
  }

  /** Opens the instance unless it is open. The caller owns the lock. */
  async open(): Promise<Instance> {
    this.#instance ??= this.#start();
    try {
      return await this.#instance;
    } catch (error) {
      this.#instance = undefined;
      throw error;
    }
  }

  /** The caller owns the lock. @throws InstanceCrashed */
  async run(messages: Buffer, onOutput: (bytes: Buffer) => void, copyData?: Uint8Array[]): Promise<void> {
    const instance = await this.open();
    this.lastUsed = Date.now();
    await instance.exec(messages, { onOutput, copyData });
    this.lastUsed = Date.now();
  }

  /** SQL of our own between a session's messages. @throws PostgresError with the backend's error */
  async ask(sql: string): Promise<(string | null)[][]> {
    const rows: (string | null)[][] = [];
    let failure: Record<string, string> | undefined;
    const reader = new MessageReader();
    this.unnamedOwner = undefined;
    await this.run(query(sql), (bytes) => {
      for (const { type, bytes: answer } of reader.push(bytes)) {
        if (type === 'D') rows.push(readRow(answer));
        if (type === 'E') failure ??= readFields(answer);
      }
    });
    if (failure) throw new PostgresError(failure.C ?? 'XX000', failure.M ?? 'unknown error');
    return rows;
  }

  /** Makes the backend the given session's, where it is not yet. */
  async apply(settings: SessionSettings): Promise<void> {
    if (this.#applied === settings.fingerprint) return;
    this.#applied = undefined;
    await this.ask(settings.applySql());
    this.#applied = settings.fingerprint;
  }

  /** Our own SQL with the superuser's rights; the next session's settings are applied again after it. */
  async askAsSuperuser(sql: string): Promise<(string | null)[][]> {
    this.#applied = undefined;
    await this.ask('SET SESSION AUTHORIZATION postgres');
    return this.ask(sql);
  }

  /** The backend's settings are unknown. */
  forget(): void {
    this.#applied = undefined;
  }

  /** Other databases live in other folders: their names are entered here, so that \l and the like list them. */
  async listDatabases(names: string[], age: number): Promise<void> {
    if (this.databasesListed === age) return;
    const others = names.filter((name) => name !== this.name);
    const values = others.map((name, index) => `(${4_000_000_000 + index}, ${quoteLiteral(name)})`);
    const copies = `INSERT INTO pg_catalog.pg_database SELECT other.oid::oid, other.name, ${copiedColumns}
      FROM pg_catalog.pg_database, (VALUES ${values.join(', ')}) AS other (oid, name)
      WHERE datname = pg_catalog.current_database();`;
    await this.askAsSuperuser(
      `BEGIN; DELETE FROM pg_catalog.pg_database WHERE oid >= 4000000000;
       ${values.length > 0 ? copies : ''} SELECT 1; COMMIT`,
    );
    this.databasesListed = age;
  }

  /** A clean shutdown. The caller owns the lock. */
  async close(): Promise<void> {
    const instance = this.#instance;
    this.#instance = undefined;
    await (await instance?.catch(() => undefined))?.close();
  }

  /** In the middle of whatever runs: that fails with InstanceCrashed. */
  async end(reason: string): Promise<void> {
    this.ended = reason;
    const instance = this.#instance;
    this.#instance = undefined;
    await (await instance?.catch(() => undefined))?.end(reason);
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
      // Cut off between the renaming below and its note: the folder has the new name already.
      instance = await this.#launch(folder, this.name);
    }
    this.statementsEpoch += 1;
    this.unnamedOwner = undefined;
    this.#applied = undefined;
    this.databasesListed = -1;
    this.advisoryKeys.clear();
    this.ended = undefined;
    // A server has it in shared_preload_libraries; without it the first INSERT into a hypertable fails.
    await instance.exec(query("LOAD 'timescaledb'"), { onOutput: () => undefined });
    if (catalogName !== this.name) {
      // A copy takes its own name. ALTER DATABASE … RENAME refuses the current database; the row itself is all that it
      // changes. In a block, because this build forgets to refresh its catalog caches after the last command of a transaction.
      const sql = `BEGIN; DELETE FROM pg_catalog.pg_database WHERE oid >= 4000000000;
        UPDATE pg_catalog.pg_database SET datname = ${quoteLiteral(this.name)}
        WHERE datname = pg_catalog.current_database(); SELECT 1; COMMIT`;
      await instance.exec(query(sql), { onOutput: () => undefined });
      await instance.exec(query('CHECKPOINT'), { onOutput: () => undefined });
      await this.#folders.setCatalogName(this.name);
    }
    return instance;
  }

  #launch(folder: string, catalogName: string): Promise<Instance> {
    const generation = ++this.#generation;
    return Instance.open(folder, catalogName, ({ message }, exited) => {
      this.#onEnd(message);
      this.#exited = exited;
      // The next instance may be opening already when this one's end is heard.
      if (generation !== this.#generation) return;
      this.#instance = undefined;
      this.#applied = undefined;
    });
  }
}

const copiedColumns = [
  'datdba, encoding, datlocprovider, datistemplate, datallowconn, dathasloginevt, datconnlimit, datfrozenxid',
  'datminmxid, dattablespace, datcollate, datctype, datlocale, daticurules, datcollversion, datacl',
].join(', ');
