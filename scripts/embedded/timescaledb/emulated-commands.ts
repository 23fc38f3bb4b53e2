// Emulates what the backend cannot do: COPY FROM STDIN, database commands, and errors of the server itself.
import type { OutputOptions } from './backend-output.ts';
import { type CopyData, type CopyPlan, collectCopyData, copyInResponse } from './copy.ts';
import type { DatabaseCommand } from './database-commands.ts';
import type { MessageQueue } from './message-queue.ts';
import { type ErrorFields, flush, query } from './messages.ts';
import { extendedQuery, PostgresError, raiseSql } from './postgres-error.ts';
import type { SessionContext } from './session-context.ts';
import type { OutgoingMessage } from './statements.ts';

/** The client disconnected during a command. */
export class ClientGone extends Error {}

/** A session, with access to its backend and its client. */
export interface SessionChannel {
  session: SessionContext;
  queue: MessageQueue;
  send(outgoing: OutgoingMessage[], options?: OutputOptions, copyData?: Buffer[]): Promise<void>;
  write(bytes: Buffer): void;
}

export class EmulatedCommands {
  readonly #channel: SessionChannel;

  constructor(channel: SessionChannel) {
    this.#channel = channel;
  }

  async copySimple(plan: CopyPlan): Promise<void> {
    const result = await this.#copyIn(plan, query(plan.describeSql));
    if (result?.failure) await this.raiseSimple(result.failure);
    else if (result) await this.#channel.send([{ bytes: query(plan.sql) }], {}, result.chunks);
  }

  async copyExtended(plan: CopyPlan, execute: OutgoingMessage): Promise<void> {
    const result = await this.#copyIn(plan, Buffer.concat([extendedQuery(plan.describeSql), flush]));
    if (result?.failure) await this.#raiseExtended(result.failure);
    else if (result) await this.#channel.send([execute, { bytes: flush }], {}, result.chunks);
  }

  async #copyIn(plan: CopyPlan, describe: Buffer): Promise<CopyData | undefined> {
    const rows: (string | null)[][] = [];
    await this.#channel.send([{ bytes: describe }], { captureRows: rows });
    // No row means that the query failed. The client has already received its error, which is the complete answer.
    if (rows.length === 0) return undefined;
    this.#channel.write(copyInResponse(plan, Number(rows[0]?.[0] ?? 0)));
    const result = await collectCopyData(this.#channel.queue);
    if (!result) throw new ClientGone();
    return result;
  }

  async databaseCommandExtended(command: DatabaseCommand, execute: OutgoingMessage): Promise<void> {
    const { session } = this.#channel;
    if (session.inTransaction) return this.#raiseExtended(insideTransaction(command.tag));
    try {
      await session.server.runDatabaseCommand(command, session);
    } catch (error) {
      if (!(error instanceof PostgresError)) throw error;
      return this.#raiseExtended(error.fields);
    }
    await this.#channel.send([execute], { tag: command.tag });
  }

  async raiseSimple(fields: ErrorFields): Promise<void> {
    const raise = query(raiseSql(fields.code, fields.message));
    await this.#channel.send([{ bytes: raise }], { replacement: fields });
  }

  async #raiseExtended(fields: ErrorFields): Promise<void> {
    const raise = Buffer.concat([extendedQuery(raiseSql(fields.code, fields.message)), flush]);
    await this.#channel.send([{ bytes: raise }], { captureRows: [], replacement: fields });
  }
}

export function insideTransaction(tag: string): ErrorFields {
  return { severity: 'ERROR', code: '25001', message: `${tag} cannot run inside a transaction block` };
}
