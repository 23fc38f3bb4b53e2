// A session's prepared statements on the shared backend: with unique names, and parsed again if lost.
import { createHash } from 'node:crypto';
import { guardAdvisoryLocks } from './advisory-locks.ts';
import { inOneTransaction } from './concurrent-index.ts';
import { type CopyPlan, findCopyFromStdin } from './copy.ts';
import { type DatabaseCommand, soleDatabaseCommand } from './database-commands.ts';
import { type Message, message, readText, text } from './messages.ts';
import { raiseSql } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';
import { parseStatements, type StatementTraits, traitsOf } from './sql.ts';

export interface PreparedStatement {
  name: string;
  /** The Parse message for the backend. */
  parse: Buffer;
  /** The database's `statementsEpoch` at Parse. If it has changed since then, the statement is parsed again. */
  epoch: number;
  sql: string;
  traits: StatementTraits;
  copy: CopyPlan | undefined;
  command: DatabaseCommand | undefined;
}

/** A message for the backend, and whether its ParseComplete or CloseComplete is sent to the client. */
export interface OutgoingMessage {
  bytes: Buffer;
  /** Set for a Parse. `fromClient` is false if the server added it. */
  parse?: { prepared: PreparedStatement; fromClient: boolean };
  close?: { fromClient: boolean };
}

export class PreparedStatements {
  readonly #session: SessionContext;
  readonly #confirmed = new Map<string, PreparedStatement>();
  /** Statements of this query cycle that the backend has not confirmed with ParseComplete yet. */
  readonly #unconfirmed = new Map<string, PreparedStatement>();
  readonly #portals = new Map<string, PreparedStatement>();

  constructor(session: SessionContext) {
    this.#session = session;
  }

  /** Rewrites a Parse: with the statement's name on the backend, and without commands that the backend cannot run. */
  parse(bytes: Buffer): OutgoingMessage {
    const { value: name, next } = readText(bytes, 5);
    const { value: sql, next: types } = readText(bytes, next);
    const copy = findCopyFromStdin(sql);
    const command = soleDatabaseCommand(sql);
    const plan = typeof copy === 'object' ? copy : undefined;
    let backendSql = this.rewriteForBackend(plan?.sql ?? sql);
    if (copy === 'unreadable')
      backendSql = raiseSql('0A000', 'the embedded server cannot read this COPY statement');
    // The server runs the command at Execute. The backend needs a statement that has no rows and no effect.
    if (command) backendSql = "DO 'BEGIN END'";
    const parse = message('P', text(this.backendName(name)), text(backendSql), bytes.subarray(types));
    const traits = traitsOf(sql);
    const epoch = this.#session.database.statementsEpoch;
    const prepared: PreparedStatement = { name, parse, epoch, sql, traits, copy: plan, command };
    this.#unconfirmed.set(name, prepared);
    return { bytes: parse, parse: { prepared, fromClient: true } };
  }

  bind(bytes: Buffer): { outgoing: OutgoingMessage[]; prepared: PreparedStatement | undefined } {
    const portal = readText(bytes, 5);
    const statement = readText(bytes, portal.next);
    const { before, prepared } = this.#ensureParsed(statement.value);
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

  describe(bytes: Buffer): OutgoingMessage[] {
    const { value: name } = readText(bytes, 6);
    const before = bytes[5] === 0x53 ? this.#ensureParsed(name).before : [];
    return [...before, { bytes: message('D', bytes.subarray(5, 6), text(this.backendName(name))) }];
  }

  close(bytes: Buffer): OutgoingMessage {
    const { value: name } = readText(bytes, 6);
    if (bytes[5] === 0x53) {
      this.#confirmed.delete(name);
      this.#unconfirmed.delete(name);
    } else this.#portals.delete(name);
    const closing = message('C', bytes.subarray(5, 6), text(this.backendName(name)));
    return { bytes: closing, close: { fromClient: true } };
  }

  execute(bytes: Buffer): { outgoing: OutgoingMessage; prepared: PreparedStatement | undefined } {
    const { value: portal, next } = readText(bytes, 5);
    const executing = message('E', text(this.backendName(portal)), bytes.subarray(next));
    return { outgoing: { bytes: executing }, prepared: this.#portals.get(portal) };
  }

  confirm(prepared: PreparedStatement): void {
    this.#confirmed.set(prepared.name, prepared);
    this.#unconfirmed.delete(prepared.name);
  }

  /** A simple query drops the unnamed statement. DISCARD ALL and DEALLOCATE ALL drop all statements. */
  forget(which: 'unnamed' | 'all'): void {
    if (which === 'all') this.#confirmed.clear();
    else this.#confirmed.delete('');
  }

  endQueryCycle(): void {
    this.#unconfirmed.clear();
  }

  /** Whether the messages may contain a COPY FROM STDIN. If so, they must not wait for a Sync. */
  mayCopy(batch: readonly Message[]): boolean {
    const statements = () => [...this.#confirmed.values(), ...this.#unconfirmed.values()];
    return (
      batch.some(mentionsStdin) ||
      (batch.some(({ type }) => type === 'E') && statements().some(({ copy }) => copy !== undefined))
    );
  }

  /** Rewrites what the backend cannot do: LISTEN, advisory locks, RESET SESSION AUTHORIZATION, concurrent indexes. */
  rewriteForBackend(sql: string): string {
    if (/\blisten\b/i.test(sql) && parseStatements(sql)?.some((statement) => 'ListenStmt' in statement)) {
      return raiseSql('0A000', 'the embedded server delivers no notifications: LISTEN is not supported');
    }
    const { settings, inTransaction } = this.#session;
    return settings.rewriteResetAuthorization(guardAdvisoryLocks(inOneTransaction(sql, inTransaction)));
  }

  /** The SQL of a Query or Parse, or of the prepared statement that a Bind uses. */
  sqlOf({ type, bytes }: Message): string[] {
    if (type === 'Q') return [readText(bytes, 5).value];
    if (type === 'P') return [readText(bytes, readText(bytes, 5).next).value];
    if (type !== 'B') return [];
    const name = readText(bytes, readText(bytes, 5).next).value;
    const prepared = this.#confirmed.get(name);
    return prepared ? [prepared.sql] : [];
  }

  /** Forgets all statements. Returns Close messages for the named ones that the backend still has. */
  closeAll(): Buffer[] {
    const named = [...this.#confirmed.values()].filter(
      ({ name, epoch }) => name !== '' && epoch === this.#session.database.statementsEpoch,
    );
    this.#confirmed.clear();
    return named.map(({ name }) => message('C', Buffer.from('S'), text(this.backendName(name))));
  }

  /** PostgreSQL truncates names to 63 bytes, so a hash replaces longer ones. */
  backendName(name: string): string {
    if (name === '') return '';
    const own = `${this.prefix}${name}`;
    if (Buffer.byteLength(own) <= 63) return own;
    return `${this.prefix}${createHash('sha1').update(name).digest('hex')}`;
  }

  get prefix(): string {
    return `session${this.#session.id}_`;
  }

  #ensureParsed(name: string): { before: OutgoingMessage[]; prepared: PreparedStatement | undefined } {
    const unconfirmed = this.#unconfirmed.get(name);
    if (unconfirmed) return { before: [], prepared: unconfirmed };
    const confirmed = this.#confirmed.get(name);
    const epoch = this.#session.database.statementsEpoch;
    const lost =
      confirmed?.epoch !== epoch ||
      (name === '' && this.#session.database.unnamedStatementOwner !== this.#session);
    if (confirmed && !lost) return { before: [], prepared: confirmed };
    if (confirmed) {
      confirmed.epoch = epoch;
      return {
        before: [{ bytes: confirmed.parse, parse: { prepared: confirmed, fromClient: false } }],
        prepared: confirmed,
      };
    }
    // This session has no such statement. The backend may have the unnamed statement of another session: close it.
    const closing = message('C', Buffer.from('S'), text(this.backendName(name)));
    return {
      before: name === '' ? [{ bytes: closing, close: { fromClient: false } }] : [],
      prepared: undefined,
    };
  }
}

function mentionsStdin({ type, bytes }: Message): boolean {
  return (type === 'P' || type === 'Q') && /std(?:in|out)/i.test(bytes.toString('latin1'));
}
