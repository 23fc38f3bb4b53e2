// Passwords: bcrypt with a cost that the event loop does not feel.
import { timingSafeEqual } from 'node:crypto';
import { ValidationError } from '../errors.ts';
import { isStorable, requireInteger, requireString } from './arguments.ts';
import { bcryptHash } from './bcrypt-threads.ts';

/** bcrypt reads this many bytes and ignores the rest, so a longer password would be a weaker promise. */
const maxPasswordBytes = 72;
/** 2^12 rounds take about a third of a second in JavaScript; 10 is the least that OWASP accepts. */
export const defaultCost = 12;
const [minCost, maxCost] = [10, 20];

/**
 * Hashes a password with bcrypt, in a thread beside the event loop. Bytes count: no normalisation.
 * @param cost log2 of the rounds, 10 to 20. Default 12.
 * @throws ValidationError for a cost out of range and for a password that is empty, longer than 72
 * bytes in UTF-8, or holds a NUL (bcrypt's end mark) or half of a surrogate pair (no UTF-8).
 */
export async function hashPassword(password: string, cost = defaultCost): Promise<string> {
  requireCost(cost);
  return await bcryptHash(requirePassword(password), cost);
}

/**
 * Whether a password belongs to a bcrypt hash ($2a, $2b, $2y). What `hashPassword` refuses belongs to
 * none, and a value that is not a bcrypt hash matches nothing.
 * @throws ValidationError for a value that is not a string.
 */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  requireString(password, 'password');
  requireString(hash, 'hash');
  return isPossible(password) && costOf(hash) !== undefined && (await matches(password, hash));
}

/** @throws ValidationError for what `hashPassword` refuses. */
export function requirePassword(password: unknown): string {
  const text = requireString(password, 'password');
  const problem = findProblem(text);
  if (problem) throw new ValidationError(problem);
  return text;
}

/** Whether `hashPassword` could have hashed it. */
export const isPossible = (password: string): boolean => findProblem(password) === undefined;

/**
 * Compares with as much work as a hash of `cost` takes, whether the stored one is cheaper, is no
 * hash at all, or there is nobody to compare with: time must not tell which.
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
  // 2^c rounds are done; those of c, c + 1, …, cost - 1 add up to the 2^cost - 2^c that are missing.
  for (let more = stored; more < cost; more += 1) await bcryptHash(password, more);
  return same;
}

/** Whether a hash is cheaper than `cost` and should be replaced while the password is known. */
export const isOutdated = (hash: string, cost: number): boolean => (costOf(hash) ?? 0) < cost;

export const requireCost = (cost: number): number =>
  requireInteger(cost, 'The bcrypt cost', minCost, maxCost);

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
