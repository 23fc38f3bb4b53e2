// Runs the savepoints of a transaction one at a time: ROLLBACK TO undoes the work of all callers since its SAVEPOINT.
import { AsyncLocalStorage } from 'node:async_hooks';
import type postgres from 'postgres';
import { TransactionRolledBackError } from '../errors.ts';

/** State of a transaction or savepoint. */
export interface Scope {
  readonly outer: Scope | undefined;
  /** Statements and savepoints that have not ended. */
  readonly running: Set<Promise<unknown>>;
  /** Error of the first failed statement, even if the caller caught it: the server commits nothing of the scope. */
  failure?: { readonly error: unknown };
  /** The open savepoint directly inside this scope. */
  open: Scope | undefined;
  /** Settles when the newest savepoint inside this scope ends; undefined if there is none. */
  turn: Promise<unknown> | undefined;
  /** Whether the scope has failed, or its transaction has ended: nothing may run in it. */
  isOver: boolean;
  /** Whether an outer scope ran a statement while this savepoint was open. */
  isCrossed: boolean;
  /** Runs `work` so that its calls on an outer scope can be traced back to this scope. */
  enter<Result>(sql: postgres.TransactionSql, work: () => Result): Result;
}

type Open = (...args: readonly never[]) => Promise<unknown>;

const inside = new AsyncLocalStorage<{ scope: Scope; sql: postgres.TransactionSql }>();

export function scopeOf(outer?: Scope): Scope {
  const scope: Scope = {
    outer,
    running: new Set(),
    open: undefined,
    turn: undefined,
    isOver: false,
    isCrossed: false,
    enter: (sql, work) => inside.run({ scope, sql }, work),
  };
  return scope;
}

/** Opens a savepoint when the previous one in the same scope has ended. */
export function openSavepoint(
  scope: Scope,
  args: readonly unknown[],
  open: (inner: Scope) => Promise<unknown>,
): Promise<unknown> {
  const from = inside.getStore();
  // The call comes from inside an open savepoint of `scope`. Waiting for it would deadlock: nest the new one in it.
  if (from && from.scope !== scope && isOpenIn(scope, from.scope)) {
    return (from.sql.savepoint as unknown as Open)(...(args as never[]));
  }
  const begin = async () => {
    const inner = scopeOf(scope);
    scope.open = inner;
    try {
      return await open(inner);
    } catch (error) {
      if (inner.isCrossed) scope.failure ??= { error: crossed(error) };
      throw error;
    } finally {
      scope.open = undefined;
    }
  };
  const savepoint = scope.turn ? scope.turn.then(begin) : begin();
  const turn: Promise<unknown> = savepoint
    .catch(() => undefined)
    .then(() => {
      if (scope.turn === turn) scope.turn = undefined;
    });
  scope.turn = turn;
  return track(scope, savepoint);
}

/** Call it when a statement of `scope` itself starts: marks the savepoints that are open in `scope` as crossed. */
export function wasCrossed(scope: Scope): void {
  for (let inner = scope.open; inner; inner = inner.open) inner.isCrossed = true;
}

export function track<Result>(scope: Scope, running: Promise<Result>): Promise<Result> {
  scope.running.add(running);
  const end = () => scope.running.delete(running);
  running.then(end, end);
  return running;
}

/** Whether this scope or one around it is over. */
export function hasEnded(scope: Scope): boolean {
  return scope.isOver || (scope.outer !== undefined && hasEnded(scope.outer));
}

function isOpenIn(scope: Scope, inner: Scope): boolean {
  for (let at: Scope | undefined = inner; at?.outer; at = at.outer) {
    if (at.outer.open !== at) return false;
    if (at.outer === scope) return true;
  }
  return false;
}

function crossed(cause: unknown): TransactionRolledBackError {
  return new TransactionRolledBackError(
    'The transaction was rolled back, because a statement of it ran while a savepoint was open that then failed, ' +
      `and was undone with it: ${(cause as Error).message}. Inside of withTransaction use the transaction that it ` +
      'passes, and await it before the next statement.',
    { cause },
  );
}
