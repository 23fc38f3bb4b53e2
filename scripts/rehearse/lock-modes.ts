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

/** Conflicts with the lock of INSERT, UPDATE and DELETE, ROW EXCLUSIVE. */
export const blocksWrites = (mode: LockMode): boolean => strength(mode) >= strength('ShareLock');

/** Conflicts with the lock of SELECT, ACCESS SHARE. */
export const blocksReads = (mode: LockMode): boolean => mode === 'AccessExclusiveLock';

/** `AccessExclusiveLock` → `ACCESS EXCLUSIVE`, as SQL writes it. */
export const formatMode = (mode: LockMode): string =>
  mode
    .replace(/Lock$/, '')
    .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
    .toUpperCase();
