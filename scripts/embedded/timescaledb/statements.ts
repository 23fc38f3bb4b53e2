// A session's prepared statements on a backend that several sessions share: own names, parsed again when lost.
import { createHash } from 'node:crypto';
import { guardAdvisoryLocks } from './advisory-locks.ts';
import { type CopyPlan, findCopyFromStdin } from './copy.ts';
import type { EmbeddedDatabase } from './database.ts';
import { type DatabaseCommand, findDatabaseCommand } from './database-commands.ts';
import { type Message, message, readText, text } from './messages.ts';
import { raiseSql } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';
import { parseStatements, type Traits, traitsOf } from './sql.ts';

export interface Prepared {
  name: string;
  /** The Parse message as the backend gets it. */
  parse: Buffer;
  /** The backend's age when it was parsed: a younger backend does not have it any more. */
  epoch: number;
  sql: string;
  traits: Traits;
  copy: CopyPlan | undefined;
  command: DatabaseCommand | undefined;
}

/** A message for the backend, and whether the client hears of its ParseComplete or CloseComplete. */
export interface Outgoing {
  bytes: Buffer;
  /** Set for a Parse; `client` is false for one that the client did not send. */
  parse?: { prepared: Prepared; client: boolean };
  close?: { client: boolean };
}

export class PreparedStatements {
  readonly #session: SessionContext;
  readonly #database: EmbeddedDatabase;
  readonly #known = new Map<string, Prepared>();
  /** Parsed in this batch, not yet confirmed. */
  readonly #fresh = new Map<string, Prepared>();
  readonly #portals = new Map<string, Prepared>();

  constructor(session: SessionContext, database: EmbeddedDatabase) {
    this.#session = session;
    this.#database = database;
  }

  /** Parse: under a name of our own, with what the backend cannot do taken out. */
  parse(bytes: Buffer): Outgoing[] {
    const { value: name, next } = readText(bytes, 5);
    const { value: sql, next: types } = readText(bytes, next);
    const copy = findCopyFromStdin(sql);
    const command = findDatabaseCommand(sql);
    const plan = typeof copy === 'object' ? copy : undefined;
    let passed = this.adapt(plan?.sql ?? sql);
    if (copy === 'unreadable')
      passed = raiseSql('0A000', 'the embedded server cannot read this COPY statement');
    // Carried out at Execute; until then the backend needs a statement without rows and effects.
    const ours = command !== undefined && 'tag' in command ? command : undefined;
    if (ours) passed = "DO 'BEGIN END'";
    const parse = message('P', text(this.backendName(name)), text(passed), bytes.subarray(types));
    const traits = traitsOf(sql);
    const prepared: Prepared = {
      name,
      parse,
      epoch: this.#database.statementsEpoch,
      sql,
      traits,
      copy: plan,
      command: ours,
    };
    this.#fresh.set(name, prepared);
    return [{ bytes: parse, parse: { prepared, client: true } }];
  }

  bind(bytes: Buffer): { outgoing: Outgoing[]; prepared: Prepared | undefined } {
    const portal = readText(bytes, 5);
    const statement = readText(bytes, portal.next);
    const { before, prepared } = this.#revive(statement.value);
    if (prepared) this.#portals.set(portal.value, prepared);
    else this.#portals.delete(portal.value);
    const bound = message(
      'B',
      text(this.backendName(portal.value)),
      text(this.backendName(statement.value)),
      bytes.subarray(statement.next),
    );
    return { outgoing: [...before, { bytes: bound }], prepared };
  }

  describe(bytes: Buffer): Outgoing[] {
    const { value: name } = readText(bytes, 6);
    const before = bytes[5] === 0x53 ? this.#revive(name).before : [];
    return [...before, { bytes: message('D', bytes.subarray(5, 6), text(this.backendName(name))) }];
  }

  close(bytes: Buffer): Outgoing[] {
    const { value: name } = readText(bytes, 6);
    if (bytes[5] === 0x53) {
      this.#known.delete(name);
      this.#fresh.delete(name);
    } else this.#portals.delete(name);
    const closing = message('C', bytes.subarray(5, 6), text(this.backendName(name)));
    return [{ bytes: closing, close: { client: true } }];
  }

  execute(bytes: Buffer): { outgoing: Outgoing; prepared: Prepared | undefined } {
    const { value: portal, next } = readText(bytes, 5);
    const executing = message('E', text(this.backendName(portal)), bytes.subarray(next));
    return { outgoing: { bytes: executing }, prepared: this.#portals.get(portal) };
  }

  confirm(prepared: Prepared): void {
    this.#known.set(prepared.name, prepared);
    this.#fresh.delete(prepared.name);
  }

  /** The unnamed statement ends with every simple query, all of them with DISCARD ALL. */
  forget(which: 'unnamed' | 'all'): void {
    if (which === 'all') this.#known.clear();
    else this.#known.delete('');
  }

  endCycle(): void {
    this.#fresh.clear();
  }

  /** Whether a COPY FROM STDIN may be among these messages: they must not wait for a Sync then. */
  mayCopy(batch: readonly Message[]): boolean {
    const known = () => [...this.#known.values(), ...this.#fresh.values()];
    return (
      batch.some(mentionsStdin) ||
      (batch.some(({ type }) => type === 'E') && known().some(({ copy }) => copy !== undefined))
    );
  }

  /** What means something else on a backend with one session is put into other words. */
  adapt(sql: string): string {
    if (/\blisten\b/i.test(sql) && parseStatements(sql)?.some(({ kind }) => kind === 'ListenStmt')) {
      return raiseSql('0A000', 'the embedded server delivers no notifications: LISTEN is not supported');
    }
    return this.#session.settings.nameLogin(guardAdvisoryLocks(sql));
  }

  /** The SQL that a message brings or is about to run. */
  sqlOf({ type, bytes }: Message): string[] {
    if (type === 'Q') return [readText(bytes, 5).value];
    if (type === 'P') return [readText(bytes, readText(bytes, 5).next).value];
    if (type !== 'B') return [];
    const name = readText(bytes, readText(bytes, 5).next).value;
    const prepared = this.#known.get(name);
    return prepared ? [prepared.sql] : [];
  }

  /** Close messages for all that the present backend still has. */
  closeAll(): Outgoing[] {
    const named = [...this.#known.values()].filter(
      ({ name, epoch }) => name !== '' && epoch === this.#database.statementsEpoch,
    );
    this.#known.clear();
    return named.map(({ name }) => ({
      bytes: message('C', Buffer.from('S'), text(this.backendName(name))),
      close: { client: false },
    }));
  }

  /** PostgreSQL cuts names at 63 bytes: longer ones are told apart by a hash. */
  backendName(name: string): string {
    if (name === '') return '';
    const own = `${this.prefix}${name}`;
    if (Buffer.byteLength(own) <= 63) return own;
    return `${this.prefix}${createHash('sha1').update(name).digest('hex')}`;
  }

  get prefix(): string {
    return `session${this.#session.id}_`;
  }

  #revive(name: string): { before: Outgoing[]; prepared: Prepared | undefined } {
    const fresh = this.#fresh.get(name);
    if (fresh) return { before: [], prepared: fresh };
    const known = this.#known.get(name);
    const epoch = this.#database.statementsEpoch;
    const lost = known?.epoch !== epoch || (name === '' && this.#database.unnamedOwner !== this.#session);
    if (known && !lost) return { before: [], prepared: known };
    if (known) {
      known.epoch = epoch;
      return { before: [{ bytes: known.parse, parse: { prepared: known, client: false } }], prepared: known };
    }
    // Never parsed here: what another session left under this name must not be taken for it.
    const closing = message('C', Buffer.from('S'), text(this.backendName(name)));
    return { before: name === '' ? [{ bytes: closing, close: { client: false } }] : [], prepared: undefined };
  }
}

function mentionsStdin({ type, bytes }: Message): boolean {
  return (type === 'P' || type === 'Q') && /std(?:in|out)/i.test(bytes.toString('latin1'));
}
