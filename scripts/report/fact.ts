// A fact of the report, or the reason why it could not be read.
import { AtrizDatabaseError, sqlState } from '../../src/errors.ts';

/** The reason why a fact could not be read, as a sentence. */
export interface Unknown {
  readonly unknown: string;
}
export type Fact<Value> = Value | Unknown;

export const isUnknown = <Value extends object>(fact: Fact<Value>): fact is Unknown => 'unknown' in fact;

/** Turns errors of PostgreSQL, the network and this package into reasons. Throws other errors: they are defects. */
export async function attempt<Value extends object>(read: () => Promise<Value>): Promise<Fact<Value>> {
  try {
    return await read();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (sqlState(error) === '42501') return { unknown: `This role may not read it: ${message}.` };
    if (error instanceof AtrizDatabaseError) return { unknown: message };
    if (typeof code !== 'string') throw error;
    return { unknown: `It could not be read: ${message} (${code}).` };
  }
}
