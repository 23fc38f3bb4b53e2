// Several hosts in one URL: finds the host that matches target_session_attrs.
// postgres.js sends standbys of PostgreSQL 14 and later the wrong query, and retries endlessly if no host answers.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host, TargetSessionAttributes } from './database-url.ts';

/** State that a server reports. */
export interface HostState {
  standby: boolean;
  readOnly: boolean;
  /** Timeline id, which increases with each promotion; 0 on a standby. */
  timeline: number;
}

export interface FailoverOptions {
  readonly hosts: readonly Host[];
  readonly target: TargetSessionAttributes;
  /** Milliseconds to wait for a promotion if servers answer but none matches. */
  readonly timeoutMs: number;
  readonly probe: (host: Host) => Promise<HostState>;
}

// Like arrayTypesSql, this query must not depend on the search_path.
export const hostStateSql = `SELECT pg_catalog.pg_is_in_recovery() AS standby,
  pg_catalog.current_setting('transaction_read_only')::boolean AS "readOnly",
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE pg_catalog.concat('x',
    pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::int END AS timeline`;

/** Milliseconds for which the chosen host and the answer of each host stay valid. */
const validMs = 1_000;
/**
 * Milliseconds to wait for the other hosts after the first answer: one of them may be a newer primary, but a silent
 * host must not delay the search. If the first answer was slow, wait `rivalFactor` times as long as that answer took.
 */
const rivalMs = 250;
const rivalFactor = 4;
const pauseMs = 200;

export class Failover {
  readonly #options: FailoverOptions;
  #found: { host: Host; at: number } | undefined;
  #search: Promise<Host> | undefined;
  /** Probes that no round has used yet: a silent host is asked only once, and a slow answer still counts. */
  readonly #probes = new Map<Host, Promise<Answer>>();
  #newestTimeline = 0;
  #isClosed = false;

  constructor(options: FailoverOptions) {
    this.#options = options;
  }

  /**
   * Finds the host for the next connection.
   * @throws the first host's error if no host answers; the error of a refused login; or an error with the code
   * `TARGET_SESSION_ATTRS` if no host fits.
   */
  pick(): Promise<Host> | Host {
    if (this.#found && performance.now() - this.#found.at < validMs) return this.#found.host;
    return this.#find();
  }

  /** Whether another host can become the one that fits: there are several hosts, and only the primary fits. */
  get mayMove(): boolean {
    return this.#options.hosts.length > 1 && isOfPrimary(this.#options.target);
  }

  /** Whether another host is the primary. Searches as long as `pick` does; false if no primary is found. */
  async isReplaced(host: Host): Promise<boolean> {
    return this.#find().then(
      (found) => found !== host,
      () => false,
    );
  }

  /** Call it when the found host fails: the next connection searches again. */
  forget(): void {
    this.#found = undefined;
  }

  close(): void {
    this.#isClosed = true;
  }

  #find(): Promise<Host> {
    this.#search ??= this.#searchHosts().finally(() => {
      this.#search = undefined;
    });
    return this.#search;
  }

  async #searchHosts(): Promise<Host> {
    const deadline = performance.now() + this.#options.timeoutMs;
    for (;;) {
      const round = await this.#round();
      if ('host' in round) {
        this.#found = { host: round.host, at: performance.now() };
        return round.host;
      }
      const isLate = performance.now() >= deadline;
      if (!round.answered || isLate || this.#isClosed) throw round.error;
      await sleep(pauseMs);
    }
  }

  /** Asks all hosts in parallel, so that several silent hosts cost only one timeout. */
  async #round(): Promise<{ host: Host } | { answered: boolean; error: unknown }> {
    const { hosts, target } = this.#options;
    const answers = new Map<Host, Answer>();
    const begun = performance.now();
    const asked = hosts.map(async (host) => {
      const answer = await this.#ask(host);
      answers.set(host, answer);
      if ('error' in answer) throw answer.error;
    });
    // For these targets, wait for all answers, because the first host that answers may not be the best one.
    const ordered = target === 'any' || target === 'prefer-standby';
    const enough = Promise.any(asked).then(
      () => sleep(Math.max(rivalMs, rivalFactor * (performance.now() - begun))),
      () => undefined,
    );
    await (ordered ? Promise.allSettled(asked) : Promise.race([Promise.allSettled(asked), enough]));
    for (const host of answers.keys()) this.#probes.delete(host);
    const fitting = hosts.filter((host) => this.#fitting(answers, host));
    if (target === 'prefer-standby') fitting.sort((one, other) => timelineOf(one) - timelineOf(other));
    if (isOfPrimary(target)) fitting.sort((one, other) => timelineOf(other) - timelineOf(one));
    const [host] = fitting;
    if (host) {
      this.#newestTimeline = Math.max(this.#newestTimeline, timelineOf(host));
      return { host };
    }
    const errors = hosts.flatMap((asked) => {
      const answer = answers.get(asked);
      return answer && 'error' in answer ? [answer.error] : [];
    });
    const refusal = errors.find(isRefusal);
    if (refusal) throw refusal;
    const answered = errors.length < hosts.length || errors.some(isStarting);
    return { answered, error: errors.length === hosts.length ? errors[0] : noneFits(target) };

    function timelineOf(host: Host): number {
      const answer = answers.get(host);
      return answer && 'timeline' in answer ? answer.timeline : 0;
    }
  }

  #ask(host: Host): Promise<Answer> {
    const running = this.#probes.get(host);
    if (running) return running;
    const answer = this.#options.probe(host).catch((error: unknown) => ({ error }));
    this.#probes.set(host, answer);
    const forget = () => this.#probes.get(host) === answer && this.#probes.delete(host);
    void answer.then(() => setTimeout(forget, validMs).unref());
    return answer;
  }

  #fitting(answers: ReadonlyMap<Host, Answer>, host: Host): boolean {
    const answer = answers.get(host);
    if (!answer || 'error' in answer) return false;
    // An old primary that returns after a failover would accept writes that are lost later.
    const isCurrent = answer.standby || answer.timeline >= this.#newestTimeline;
    switch (this.#options.target) {
      case 'any':
      case 'prefer-standby':
        return true;
      case 'primary':
        return !answer.standby && isCurrent;
      case 'read-write':
        return !answer.standby && !answer.readOnly && isCurrent;
      case 'standby':
        return answer.standby;
      case 'read-only':
        return answer.standby || answer.readOnly;
    }
  }
}

type Answer = HostState | { readonly error: unknown };

const isOfPrimary = (target: TargetSessionAttributes): boolean =>
  target === 'primary' || target === 'read-write';

const noneFits = (target: TargetSessionAttributes) =>
  Object.assign(new Error(`No host of the URL is ${target}.`), { code: 'TARGET_SESSION_ATTRS' });

/** 57P03 cannot_connect_now, 53300 too_many_connections: the server runs, so ask again. */
const isStarting = (error: unknown) => ['57P03', '53300'].includes((error as { code?: string }).code ?? '');

/** A wrong password or database is wrong on every host. */
function isRefusal(error: unknown): boolean {
  return ['28', '3D'].includes(String((error as { code?: unknown }).code).slice(0, 2));
}
