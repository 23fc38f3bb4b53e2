// Counts and limits failed logins in the database, for each account and each IP address.

import { createHash } from 'node:crypto';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireFields, requireInteger } from './arguments.ts';

/** Allows `failures` failed logins at once, then one more every `windowMs / failures` milliseconds. */
export interface LoginLimit {
  failures: number;
  windowMs: number;
}

export interface LoginLimits {
  /**
   * Limit for each e-mail, even if no user has it. Each IP address from which the account has logged in has its own
   * counter, so that failures from other addresses do not lock out this address. An attempt counts as a failure until
   * its password has been verified. So simultaneous logins beyond `failures` are limited, even if all are correct.
   */
  account: LoginLimit;
  /** Limit for each IP address (for IPv6, each /64 network), over all e-mails. Many people may share an address. */
  address: LoginLimit;
  /** How long after a login its IP address counts as known to the account, in milliseconds. */
  knownAddressMs: number;
}

const minute = 60_000;

/**
 * ASVS 4.0, 2.2.1 allows at most 100 failures per hour on an account. These limits allow 50 per hour from all
 * unknown addresses together, and 50 from each known address.
 */
export const defaultLoginLimits: LoginLimits = {
  account: { failures: 10, windowMs: 15 * minute },
  address: { failures: 100, windowMs: 15 * minute },
  knownAddressMs: 90 * 24 * 60 * minute,
};

/** An attempt that was counted as a failure before its password was checked. */
export interface CountedAttempt {
  address: string | null;
  account: string;
  known: string | null;
  countedAs: 'account' | 'known_address';
  limits: LoginLimits;
}

export interface Attempter {
  /** Lower-case. */
  email: string;
  address: string | null;
  userAgent: string | null;
}

/** @throws ValidationError for a limit out of range. */
export function parseLimits(limits: Partial<LoginLimits> = {}): LoginLimits {
  const { account, address, knownAddressMs } = { ...defaultLoginLimits, ...requireFields(limits, 'limits') };
  requireInteger(knownAddressMs, 'limits.knownAddressMs', 0, 3_660 * 24 * 60 * minute);
  return { account: parseLimit(account, 'account'), address: parseLimit(address, 'address'), knownAddressMs };
}

function parseLimit(limit: LoginLimit, name: string): LoginLimit {
  const { failures, windowMs } = requireFields(limit, `limits.${name}`);
  requireInteger(failures, `limits.${name}.failures`, 1, 100_000);
  // At least one millisecond per failure. At most 31 days, so that a lock-out ends.
  requireInteger(windowMs, `limits.${name}.windowMs`, failures, 31 * 24 * 60 * minute);
  return { failures, windowMs };
}

const stepMs = ({ failures, windowMs }: LoginLimit): number => Math.floor(windowMs / failures);

/**
 * Counts an attempt as a failure, or returns the milliseconds until the next attempt is allowed. Counting before
 * the password check applies the limit to simultaneous attempts. The address is counted before the account, so
 * that a limited address does not count against accounts and two attempts cannot deadlock.
 */
export async function countAttempt(
  db: AnyDatabase,
  { email, address, userAgent }: Attempter,
  limits: LoginLimits,
): Promise<CountedAttempt | { retryAfterMs: number }> {
  const account = accountOf(email);
  const { rows } = await databaseOf(db).query<{
    address: string | null;
    known: string | null;
    limitedType: string;
    limitedSubject: string;
    countedAs: CountedAttempt['countedAs'] | null;
  }>(countSql, [
    account,
    address,
    userAgent,
    stepMs(limits.address),
    limits.address.windowMs,
    stepMs(limits.account),
    limits.account.windowMs,
  ]);
  const [row] = rows;
  if (row?.countedAs) {
    return { address: row.address, account, known: row.known, countedAs: row.countedAs, limits };
  }
  const limit = row?.limitedType === 'address' ? limits.address : limits.account;
  const wait = await databaseOf(db).primary.query<{ ms: number }>(
    `SELECT ceil(extract(epoch FROM forgiven_at - clock_timestamp()) * 1000)::float8 AS ms
     FROM login_attempts WHERE subject_type = $1 AND subject = $2`,
    [row?.limitedType, row?.limitedSubject],
  );
  return { retryAfterMs: Math.max(1, (wait.rows[0]?.ms ?? 0) + stepMs(limit) - limit.windowMs) };
}

/** Reverses a counted failure after a correct password, and stores the address as known to the account. */
export async function forgiveAttempt(
  db: AnyDatabase,
  { address, account, known, countedAs, limits }: CountedAttempt,
): Promise<void> {
  await databaseOf(db).query(forgiveSql, [
    address,
    stepMs(limits.address),
    account,
    stepMs(limits.account),
    countedAs,
    known,
    limits.knownAddressMs,
  ]);
}

/**
 * Resets the counters of an account, including those of its known addresses, after a new password was set.
 * The counters that IP addresses have over all e-mails do not change.
 */
export async function forgetFailures(db: AnyDatabase, email: string): Promise<void> {
  const account = accountOf(email);
  // Locks rows in the same order as forgiveSql.
  await databaseOf(db).query("DELETE FROM login_attempts WHERE subject_type = 'account' AND subject = $1", [
    account,
  ]);
  await databaseOf(db).query(
    'UPDATE login_attempts SET forgiven_at = clock_timestamp() WHERE account = $1 AND forgiven_at > clock_timestamp()',
    [account],
  );
}

/** The subject of an account: the SHA-256 of its e-mail, as in `loginSubjectOf` of schema/core.ts. */
const accountOf = (email: string): string => createHash('sha256').update(email).digest('hex');

// EXCLUDED.forgiven_at is the current time plus one step. If the limit is reached, no row is updated or returned.
const countOne = (type: string, subject: string, step: string, window: string, from: string) =>
  `INSERT INTO login_attempts AS counter (subject_type, subject, forgiven_at, expires_at, user_agent)
   SELECT ${type}, ${subject}, next, next, CASE WHEN ${type} = 'known_address' THEN NULL ELSE $3 END
   FROM ${from}, LATERAL (SELECT clock_timestamp() + ${step} * interval '1 ms' AS next) AS clock
   ON CONFLICT (subject_type, subject) DO UPDATE SET
     forgiven_at = greatest(counter.forgiven_at + ${step} * interval '1 ms', EXCLUDED.forgiven_at),
     expires_at = greatest(counter.expires_at, counter.forgiven_at + ${step} * interval '1 ms', EXCLUDED.expires_at),
     user_agent = EXCLUDED.user_agent
   WHERE counter.forgiven_at + 2 * ${step} * interval '1 ms' <= EXCLUDED.forgiven_at + ${window} * interval '1 ms'
   RETURNING counter.subject_type`;

const countSql = `
WITH given AS (
  SELECT CASE family($2::inet) WHEN 4 THEN host($2::inet) WHEN 6 THEN network(set_masklen($2::inet, 64))::text END AS address
), subjects AS (
  SELECT address, encode(sha256(convert_to($1 || ' ' || address, 'UTF8')), 'hex') AS known FROM given
), counted_address AS (
  ${countOne("'address'", 'address', '$4::float8', '$5::float8', '(SELECT address FROM subjects WHERE address IS NOT NULL) AS present')}
), account AS (
  SELECT CASE WHEN seen.id IS NULL THEN 'account' ELSE 'known_address' END::login_subject AS type,
    CASE WHEN seen.id IS NULL THEN $1 ELSE subjects.known END AS subject
  FROM subjects LEFT JOIN login_attempts AS seen
    ON seen.subject_type = 'known_address' AND seen.subject = subjects.known AND seen.expires_at > clock_timestamp()
  WHERE subjects.address IS NULL OR EXISTS (SELECT FROM counted_address)
), counted_account AS (
  ${countOne('type', 'subject', '$6::float8', '$7::float8', 'account')}
)
SELECT subjects.address, subjects.known, counted_account.subject_type AS "countedAs",
  coalesce(account.type, 'address') AS "limitedType", coalesce(account.subject, subjects.address) AS "limitedSubject"
FROM subjects LEFT JOIN account ON true LEFT JOIN counted_account ON true`;

// Locks rows in the same order as countSql: each count(*) makes a part of the statement run after the previous part.
const forgiveSql = `
WITH address AS (
  UPDATE login_attempts SET forgiven_at = forgiven_at - $2::float8 * interval '1 ms'
  WHERE subject_type = 'address' AND subject = $1 RETURNING id
), account AS (
  UPDATE login_attempts SET forgiven_at = forgiven_at - $4::float8 * interval '1 ms'
  WHERE subject_type = 'account' AND subject = $3 AND $5 = 'account' AND (SELECT count(*) FROM address) >= 0
  RETURNING id
)
INSERT INTO login_attempts AS counter (subject_type, subject, account, forgiven_at, expires_at)
SELECT 'known_address', $6, $3, clock_timestamp(), clock_timestamp() + $7::float8 * interval '1 ms'
WHERE $1 IS NOT NULL AND (SELECT count(*) FROM account) >= 0
ON CONFLICT (subject_type, subject) DO UPDATE SET
  forgiven_at = counter.forgiven_at - CASE $5 WHEN 'known_address' THEN $4::float8 ELSE 0 END * interval '1 ms',
  expires_at = greatest(counter.expires_at, EXCLUDED.expires_at),
  account = EXCLUDED.account, user_agent = NULL`;
