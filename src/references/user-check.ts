// A cached requireUser for services with many writes. It queries atriz_core for many ids at once.
import { UserReferenceError, ValidationError } from '../errors.ts';
import type { Database } from '../pool.ts';
import { acceptActive, parseUserId, readStandings, type Standing } from './require.ts';

/** Default `ttlMs` of `createUserCheck` and default `graceMs` of `eraseUser`, in milliseconds. */
export const defaultTtlMs = 60_000;

export interface UserCheckOptions {
  /** How long the result for an active user is cached, in milliseconds. Default 60,000. */
  ttlMs?: number;
  /** How long the result for an unknown or inactive user is cached, in milliseconds. Default 5,000. */
  refusedTtlMs?: number;
  /** Maximum number of cached results, about 150 bytes each. The oldest is removed first. Default 100,000. */
  max?: number;
}

/** `requireUser` and `requireUsers` with a cache. Results and errors are as in the functions without a cache. */
export interface UserCheck {
  requireUser(userId: string): Promise<string>;
  requireUsers(userIds: readonly string[]): Promise<string[]>;
  /**
   * Removes the cached result of a user. Call it after this process changed the user. A query that is already
   * running still stores its result.
   * @throws ValidationError for a value that is not a uuid.
   */
  forget(userId: string): void;
}

/**
 * Creates a check for services that receive the same user ids often. Ids that several callers request in
 * one turn of the event loop go to atriz_core in one query, and an id with a running query is not queried
 * again. If a query fails, its callers get the error and nothing is cached.
 *
 * Cached results may be stale: a deactivated or erased user is accepted for up to `ttlMs`, and a new or
 * reactivated user may be refused for up to `refusedTtlMs`. Both periods begin with the query. `ttlMs`
 * must not exceed the `graceMs` of `eraseUser`.
 * @param coreDb A pool of atriz_core, not a transaction, because the check outlives it.
 * @throws ValidationError for an option out of range.
 */
export function createUserCheck(coreDb: Database, options: UserCheckOptions = {}): UserCheck {
  const { ttlMs = defaultTtlMs, refusedTtlMs = 5_000, max = 100_000 } = options;
  for (const [name, value, least] of [
    ['ttlMs', ttlMs, 0],
    ['refusedTtlMs', refusedTtlMs, 0],
    ['max', max, 1],
  ] as const) {
    if (!(Number.isFinite(value) && value >= least)) {
      throw new ValidationError(`${name} is ${value}: use a number from ${least}.`);
    }
  }
  const memory = new Memory(max, { active: ttlMs, inactive: refusedTtlMs, unknown: refusedTtlMs });
  const ask = batched(async (ids) => {
    const askedAt = performance.now();
    const standings = await readStandings(coreDb, ids);
    for (const id of ids) memory.set(id, standings.get(id) ?? 'unknown', askedAt);
    return standings;
  });
  const standingOf = (id: string) => memory.get(id) ?? ask(id);
  return {
    async requireUser(userId) {
      const id = parseUserId(userId);
      const standing = await standingOf(id);
      if (standing !== 'active') throw new UserReferenceError(id, standing);
      return id;
    },
    requireUsers: (userIds) =>
      acceptActive(userIds, async (ids) => {
        const standings = await Promise.all(ids.map(standingOf));
        return new Map(ids.map((id, index) => [id, standings[index] ?? 'unknown']));
      }),
    forget: (userId) => memory.delete(parseUserId(userId)),
  };
}

// Uses a Map in insertion order instead of a library's LRU cache. It matters little which result is removed first,
// because results expire within a minute by default.
class Memory {
  readonly #answers = new Map<string, { standing: Standing; until: number }>();
  readonly #max: number;
  readonly #ttl: Readonly<Record<Standing, number>>;

  constructor(max: number, ttl: Readonly<Record<Standing, number>>) {
    this.#max = max;
    this.#ttl = ttl;
  }

  get(id: string): Standing | undefined {
    const answer = this.#answers.get(id);
    return answer && answer.until > performance.now() ? answer.standing : undefined;
  }

  set(id: string, standing: Standing, askedAt: number): void {
    this.#answers.delete(id);
    const [oldest] = this.#answers.keys();
    if (this.#answers.size >= this.#max && oldest !== undefined) this.#answers.delete(oldest);
    this.#answers.set(id, { standing, until: askedAt + this.#ttl[standing] });
  }

  delete(id: string): void {
    this.#answers.delete(id);
  }
}

/** Collects the ids requested in one turn of the event loop, then calls `ask` once for all of them. */
function batched(
  ask: (ids: readonly string[]) => Promise<ReadonlyMap<string, Standing>>,
): (id: string) => Promise<Standing> {
  const pending = new Map<string, Promise<Standing>>();
  let batch: { ids: string[]; answers: Promise<ReadonlyMap<string, Standing>> } | undefined;
  const open = () => {
    const ids: string[] = [];
    const gathered = new Promise<void>((resolve) => setImmediate(resolve));
    const answers = gathered.then(() => {
      batch = undefined;
      return ask(ids);
    });
    return { ids, answers };
  };
  return (id) => {
    const asked = pending.get(id);
    if (asked) return asked;
    batch ??= open();
    batch.ids.push(id);
    const answer = batch.answers
      .then((standings) => standings.get(id) ?? 'unknown')
      .finally(() => pending.delete(id));
    pending.set(id, answer);
    return answer;
  };
}
