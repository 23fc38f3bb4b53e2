// Hashes and verifies passwords with bcrypt, outside the event loop.
import { timingSafeEqual } from 'node:crypto';
import { ValidationError } from '../errors.ts';
import { isStorable, requireInteger, requireString } from './arguments.ts';
import { bcryptHash } from './bcrypt-threads.ts';

/** bcrypt reads this many bytes and ignores the rest. The end of a longer password would have no effect. */
const maxPasswordBytes = 72;
/** 2^12 rounds take about a third of a second in JavaScript. OWASP requires a cost of at least 10. */
export const defaultCost = 12;

/**
 * Hashes a password with bcrypt in a worker thread. Unicode is not normalised.
 * @param cost log2 of the rounds, 10 to 20. Default 12.
 * @throws ValidationError for a cost out of range, and for a password that is empty, is longer than 72 bytes
 * in UTF-8, or contains a NUL (which ends bcrypt's input) or an unpaired surrogate (not valid UTF-8).
 */
export async function hashPassword(password: string, cost = defaultCost): Promise<string> {
  requireCost(cost);
  return await bcryptHash(requirePassword(password), cost);
}

/**
 * Whether a password matches a bcrypt hash ($2a, $2b, $2y). Returns false for a password that `hashPassword`
 * refuses and for a hash in another format.
 * @throws ValidationError for a value that is not a string.
 */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  requireString(password, 'password');
  requireString(hash, 'hash');
  return isPossible(password) && costOf(hash) !== undefined && (await matches(password, hash));
}

/** @throws ValidationError for a password that `hashPassword` refuses. */
export function requirePassword(password: unknown): string {
  const text = requireString(password, 'password');
  const problem = findProblem(text);
  if (problem) throw new ValidationError(problem);
  return text;
}

/** Whether `hashPassword` accepts the password. */
export const isPossible = (password: string): boolean => findProblem(password) === undefined;

/**
 * Compares a password with a hash. Does at least the work of `cost`, also for a cheaper, missing or malformed
 * hash, so that the response time does not reveal whether a user exists.
 */
export async function comparePassword(
  password: string,
  hash: string | undefined,
  cost: number,
): Promise<boolean> {
  const stored = hash === undefined ? undefined : costOf(hash);
  if (hash === undefined || stored === undefined) {
    await bcryptHash(password, cost);
    return false;
  }
  const same = await matches(password, hash);
  // `matches` did 2^stored rounds. Hashes of cost stored, stored + 1, …, cost - 1 add 2^cost - 2^stored rounds.
  for (let more = stored; more < cost; more += 1) await bcryptHash(password, more);
  return same;
}

/** Whether a hash is cheaper than `cost` and should be replaced at login, when the password is known. */
export const isOutdated = (hash: string, cost: number): boolean => (costOf(hash) ?? 0) < cost;

export const requireCost = (cost: number): number => requireInteger(cost, 'The bcrypt cost', 10, 20);

async function matches(password: string, hash: string): Promise<boolean> {
  const computed = await bcryptHash(password, hash.slice(0, 29));
  return timingSafeEqual(Buffer.from(computed), Buffer.from(hash));
}

function findProblem(password: string): string | undefined {
  if (password === '') return 'The password is empty.';
  const bytes = Buffer.byteLength(password, 'utf8');
  if (bytes > maxPasswordBytes) {
    return `The password has ${bytes} bytes: bcrypt reads ${maxPasswordBytes}, so longer ones are refused.`;
  }
  return isStorable(password) ? undefined : 'The password holds a NUL or half of a surrogate pair.';
}

function costOf(hash: string): number | undefined {
  const [, cost] = /^\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}$/.exec(hash) ?? [];
  return cost === undefined ? undefined : Number(cost);
}
