// requireUser for ingest: remembers answers for a while, and asks atriz_core for many ids at once.
import { UserReferenceError, ValidationError } from '../errors.ts';
import type { Database } from '../pool.ts';
import { acceptActive, parseUserId, readStandings, type Standing } from './require.ts';

/** Seconds of trust that `createUserCheck` gives by default, and that `eraseUser` waits for. In milliseconds. */
export const defaultTtlMs = 60_000;

export interface UserCheckOptions {
  /** How long an active user is taken for active without asking again. Default 60,000. */
  ttlMs?: number;
  /** How long somebody unknown or inactive stays refused without asking again. Default 5,000. */
  refusedTtlMs?: number;
  /** Most ids remembered, about 150 bytes each; the oldest answer goes first. Default 100,000. */
  max?: number;
}

/** `requireUser` and `requireUsers` with a memory. They return and throw what those do. */
export interface UserCheck {
  requireUser(userId: string): Promise<string>;
  requireUsers(userIds: readonly string[]): Promise<string[]>;
  /** Forgets one answer, so that the next call asks again: after this process itself changed the user. */
  forget(userId: string): void;
}

/**
 * A check for services that see the same users again and again. Ids asked for at the same moment,
 * by however many callers, go to atriz_core in one query; an id that is being asked for is not asked
 * for twice. A query that fails rejects its callers and is not remembered.
 *
 * What stale means: somebody deactivated or erased is still accepted for up to `ttlMs`, and somebody
 * refused who has just been created or activated stays refused for up to `refusedTtlMs`, counted from
 * when the query was sent. Keep `ttlMs` at most as long as the `graceMs` of `eraseUser`.
 * @param coreDb a pool of atriz_core. Not a transaction: the check outlives it.
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

// A Map in order of arrival, not an LRU package: answers die of age within a minute, so which one
// makes room for another hardly matters, and nothing else of such a package would be used.
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

/** Gathers what is asked for until the event loop comes round, then asks once for all of it. */
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
