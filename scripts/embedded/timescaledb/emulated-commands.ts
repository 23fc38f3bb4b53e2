// Emulates what the backend cannot do: COPY FROM STDIN, database commands, and errors of the server itself.
import type { OutputOptions } from './backend-output.ts';
import { type CopyPlan, collectCopyData, copyInResponse } from './copy.ts';
import type { DatabaseCommand } from './database-commands.ts';
import type { MessageQueue } from './message-queue.ts';
import { type ErrorFields, flush, query } from './messages.ts';
import { extendedQuery, PostgresError, raiseSql } from './postgres-error.ts';
import type { OutgoingMessage } from './statements.ts';

/** The client disconnected during a command. */
export class ClientGone extends Error {}

/** The session's access to its backend, its client and its server. */
export interface SessionChannel {
  queue: MessageQueue;
  send(outgoing: OutgoingMessage[], options?: OutputOptions, copyData?: Buffer[]): Promise<void>;
  write(bytes: Buffer): void;
  inTransaction(): boolean;
  runDatabaseCommand(command: DatabaseCommand): Promise<void>;
}

export class EmulatedCommands {
  readonly #channel: SessionChannel;

  constructor(channel: SessionChannel) {
    this.#channel = channel;
  }

  async copySimple(plan: CopyPlan): Promise<void> {
    const rows: (string | null)[][] = [];
    await this.#channel.send([{ bytes: query(plan.describeSql) }], { captureRows: rows });
    // Without a row the query failed: its error and ReadyForQuery are the complete answer.
    if (rows.length === 0) return;
    const result = await this.#copyIn(plan, rows);
    if ('failure' in result) await this.raiseSimple(result.failure);
    else await this.#channel.send([{ bytes: query(plan.sql) }], {}, result.chunks);
  }

  async copyExtended(plan: CopyPlan, execute: OutgoingMessage): Promise<void> {
    const rows: (string | null)[][] = [];
    await this.#channel.send([{ bytes: Buffer.concat([extendedQuery(plan.describeSql), flush]) }], {
      captureRows: rows,
    });
    if (rows.length === 0) return;
    const result = await this.#copyIn(plan, rows);
    if ('failure' in result) await this.#raiseExtended(result.failure);
    else await this.#channel.send([execute, { bytes: flush }], {}, result.chunks);
  }

  async #copyIn(
    plan: CopyPlan,
    rows: (string | null)[][],
  ): Promise<{ chunks: Buffer[] } | { failure: ErrorFields }> {
    this.#channel.write(copyInResponse(plan, Number(rows[0]?.[0] ?? 0)));
    const result = await collectCopyData(this.#channel.queue);
    if (!result) throw new ClientGone();
    return result;
  }

  async databaseCommandExtended(command: DatabaseCommand, execute: OutgoingMessage): Promise<void> {
    try {
      if (this.#channel.inTransaction())
        throw new PostgresError('25001', insideTransaction(command.tag).message);
      await this.#channel.runDatabaseCommand(command);
    } catch (error) {
      if (!(error instanceof PostgresError)) throw error;
      await this.#raiseExtended(error.fields);
      return;
    }
    await this.#channel.send([execute], { tag: command.tag });
  }

  async raiseSimple(fields: ErrorFields): Promise<void> {
    await this.#channel.send([{ bytes: query(raiseSql(fields.code, fields.message)) }], {
      replacement: fields,
    });
  }

  async #raiseExtended(fields: ErrorFields): Promise<void> {
    const raise = extendedQuery(raiseSql(fields.code, fields.message));
    await this.#channel.send([{ bytes: Buffer.concat([raise, flush]) }], {
      captureRows: [],
      replacement: fields,
    });
  }
}

export function insideTransaction(tag: string): ErrorFields {
  return { severity: 'ERROR', code: '25001', message: `${tag} cannot run inside a transaction block` };
}
