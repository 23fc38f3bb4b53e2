// PostgreSQL's table locks, and which of an application's statements they block.

/** From the weakest to the strongest, as pg_locks names them. */
const modes = [
  'AccessShareLock',
  'RowShareLock',
  'RowExclusiveLock',
  'ShareUpdateExclusiveLock',
  'ShareLock',
  'ShareRowExclusiveLock',
  'ExclusiveLock',
  'AccessExclusiveLock',
] as const;
export type LockMode = (typeof modes)[number];

const strength = (mode: LockMode): number => modes.indexOf(mode);

export const stronger = (one: LockMode, other: LockMode): LockMode =>
  strength(one) >= strength(other) ? one : other;

/** Whether the mode conflicts with ROW EXCLUSIVE, the lock of INSERT, UPDATE and DELETE. */
export const blocksWrites = (mode: LockMode): boolean => strength(mode) >= strength('ShareLock');

/** Whether the mode conflicts with ACCESS SHARE, the lock of SELECT. */
export const blocksReads = (mode: LockMode): boolean => mode === 'AccessExclusiveLock';

/** `AccessExclusiveLock` → `ACCESS EXCLUSIVE`, as SQL writes it. */
export const formatMode = (mode: LockMode): string =>
  mode
    .replace(/Lock$/, '')
    .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
    .toUpperCase();
