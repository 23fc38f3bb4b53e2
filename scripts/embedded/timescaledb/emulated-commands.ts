// What the backend cannot do by itself, done around it: COPY FROM STDIN, commands about databases, our own errors.
import type { OutputOptions } from './backend-output.ts';
import { type CopyPlan, collectCopyData, copyInResponse } from './copy.ts';
import type { DatabaseCommand } from './database-commands.ts';
import type { MessageQueue } from './message-queue.ts';
import { type Fields, flush, query } from './messages.ts';
import { extended, PostgresError, raiseSql } from './postgres-error.ts';
import type { Outgoing } from './statements.ts';

/** The client went away in the middle of something. */
export class ClientGone extends Error {}

/** The session's ways to its backend, its client and its server. */
export interface SessionChannel {
  queue: MessageQueue;
  send(outgoing: Outgoing[], options?: OutputOptions, copyData?: Buffer[]): Promise<void>;
  write(bytes: Buffer): void;
  inTransaction(): boolean;
  carryOut(command: DatabaseCommand): Promise<void>;
}

export class EmulatedCommands {
  readonly #channel: SessionChannel;

  constructor(path: SessionChannel) {
    this.#channel = path;
  }

  async copySimple(plan: CopyPlan): Promise<void> {
    const rows: (string | null)[][] = [];
    await this.#channel.send([{ bytes: query(plan.describeSql) }], { capture: rows });
    // After an error its ReadyForQuery is the answer's end; after none, the answer goes on.
    if (rows.length === 0) return;
    const result = await this.#copyIn(plan, rows);
    if ('failure' in result) await this.raiseSimple(result.failure);
    else await this.#channel.send([{ bytes: query(plan.sql) }], {}, result.chunks);
  }

  async copyExtended(plan: CopyPlan, execute: Outgoing): Promise<void> {
    const rows: (string | null)[][] = [];
    await this.#channel.send([{ bytes: Buffer.concat([extended(plan.describeSql), flush]) }], {
      capture: rows,
    });
    if (rows.length === 0) return;
    const result = await this.#copyIn(plan, rows);
    if ('failure' in result) await this.#raiseExtended(result.failure);
    else await this.#channel.send([execute, { bytes: flush }], {}, result.chunks);
  }

  async #copyIn(
    plan: CopyPlan,
    rows: (string | null)[][],
  ): Promise<{ chunks: Buffer[] } | { failure: Fields }> {
    this.#channel.write(copyInResponse(plan, Number(rows[0]?.[0] ?? 0)));
    const result = await collectCopyData(this.#channel.queue);
    if (!result) throw new ClientGone();
    return result;
  }

  async commandExtended(command: DatabaseCommand, execute: Outgoing): Promise<void> {
    try {
      if (this.#channel.inTransaction())
        throw new PostgresError('25001', insideTransaction(command.tag).message);
      await this.#channel.carryOut(command);
    } catch (error) {
      if (!(error instanceof PostgresError)) throw error;
      await this.#raiseExtended(error.fields);
      return;
    }
    await this.#channel.send([execute], { tag: command.tag });
  }

  async raiseSimple(fields: Fields): Promise<void> {
    await this.#channel.send([{ bytes: query(raiseSql(fields.code, fields.message)) }], { instead: fields });
  }

  async #raiseExtended(fields: Fields): Promise<void> {
    const raise = extended(raiseSql(fields.code, fields.message));
    await this.#channel.send([{ bytes: Buffer.concat([raise, flush]) }], { capture: [], instead: fields });
  }
}

export function insideTransaction(tag: string): Fields {
  return { severity: 'ERROR', code: '25001', message: `${tag} cannot run inside a transaction block` };
}
