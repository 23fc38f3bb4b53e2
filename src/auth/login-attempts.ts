// Failed logins, counted and limited in the database for each account and each address.

import { createHash } from 'node:crypto';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireFields, requireInteger } from './arguments.ts';

/** `failures` at once, then one more whenever `windowMs / failures` have passed. */
export interface LoginLimit {
  failures: number;
  windowMs: number;
}

export interface LoginLimits {
  /**
   * For each e-mail, whether somebody has it or not. An address from which the account has logged in
   * is counted apart, so that strangers cannot lock its owner out there. An attempt counts until its
   * password was found right: more logins at once than `failures`, from a new address, are limited
   * even if all are right.
   */
  account: LoginLimit;
  /** For each address (IPv6: /64 network) over all e-mails. Many people may share one. */
  address: LoginLimit;
  /** How long a success makes an address known to the account, in milliseconds. */
  knownAddressMs: number;
}

const minute = 60_000;

/** ASVS 4.0, 2.2.1 allows an account 100 failures an hour; these make 50 at most, a person's slips none. */
export const defaultLoginLimits: LoginLimits = {
  account: { failures: 10, windowMs: 15 * minute },
  address: { failures: 100, windowMs: 15 * minute },
  knownAddressMs: 90 * 24 * 60 * minute,
};

/** An attempt that was counted as a failure before its password was looked at. */
export interface CountedAttempt {
  address: string | null;
  account: string;
  known: string | null;
  countedAs: 'account' | 'known_address';
}

export type Counted = { attempt: CountedAttempt } | { retryAfterMs: number };

export interface Attempter {
  /** Lower-case. */
  email: string;
  address: string | null;
  userAgent: string | null;
}

/** @throws ValidationError */
export function parseLimits(limits: Partial<LoginLimits> = {}): LoginLimits {
  const { account, address, knownAddressMs } = { ...defaultLoginLimits, ...requireFields(limits, 'limits') };
  requireInteger(knownAddressMs, 'limits.knownAddressMs', 0, 3_660 * 24 * 60 * minute);
  return { account: parseLimit(account, 'account'), address: parseLimit(address, 'address'), knownAddressMs };
}

function parseLimit(limit: LoginLimit, name: string): LoginLimit {
  const { failures, windowMs } = requireFields(limit, `limits.${name}`);
  requireInteger(failures, `limits.${name}.failures`, 1, 100_000);
  // A millisecond for each failure at least, and at most a month: nobody is locked out for good.
  requireInteger(windowMs, `limits.${name}.windowMs`, failures, 31 * 24 * 60 * minute);
  return { failures, windowMs };
}

const stepMs = ({ failures, windowMs }: LoginLimit): number => Math.floor(windowMs / failures);

/**
 * Counts an attempt as a failure, or says when the next one is allowed. Counted first and forgiven on
 * success: of fifty at once, no more pass than the limit says. Always address before account, so that
 * a limited address adds nothing to accounts and two attempts cannot wait for each other.
 */
export async function countAttempt(
  db: AnyDatabase,
  { email, address, userAgent }: Attempter,
  limits: LoginLimits,
): Promise<Counted> {
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
    const { countedAs, known } = row;
    return { attempt: { address: row.address, account, known, countedAs } };
  }
  const limit = row?.limitedType === 'address' ? limits.address : limits.account;
  const wait = await databaseOf(db).primary.query<{ ms: number }>(
    `SELECT ceil(extract(epoch FROM forgiven_at - clock_timestamp()) * 1000)::float8 AS ms
     FROM login_attempts WHERE subject_type = $1 AND subject = $2`,
    [row?.limitedType, row?.limitedSubject],
  );
  return { retryAfterMs: Math.max(1, (wait.rows[0]?.ms ?? 0) + stepMs(limit) - limit.windowMs) };
}

/** Takes a counted failure back, since the password was right, and remembers the address. */
export async function forgiveAttempt(
  db: AnyDatabase,
  { address, account, known, countedAs }: CountedAttempt,
  limits: LoginLimits,
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
 * Forgets the failures of an account, those at its known addresses included: for a password that is
 * new, guesses of the old one mean nothing. The counters of addresses stay.
 */
export async function forgetFailures(db: AnyDatabase, email: string): Promise<void> {
  const account = accountOf(email);
  // The order of the locks is that of forgiveSql.
  await databaseOf(db).query("DELETE FROM login_attempts WHERE subject_type = 'account' AND subject = $1", [
    account,
  ]);
  await databaseOf(db).query(
    'UPDATE login_attempts SET forgiven_at = clock_timestamp() WHERE account = $1 AND forgiven_at > clock_timestamp()',
    [account],
  );
}

/** The subject of an account, as the erasure in the schema computes it too. */
const accountOf = (email: string): string => createHash('sha256').update(email).digest('hex');

// EXCLUDED.forgiven_at is one step from now. A row that is not updated is not returned: limited.
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

// The order of the locks is that of countSql; each count(*) makes its part wait for the one before.
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
