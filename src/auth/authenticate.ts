// Checks credentials. An unknown e-mail and a wrong password take the same work and get the same result.
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { parseAddress, parseEmail, parseUserAgent, requireFields, requireString } from './arguments.ts';
import {
  type Attempter,
  type CountedAttempt,
  countAttempt,
  forgiveAttempt,
  type LoginLimits,
  parseLimits,
} from './login-attempts.ts';
import {
  comparePassword,
  defaultCost,
  hashPassword,
  isOutdated,
  isPossible,
  requireCost,
} from './passwords.ts';
import { type AuthenticatedUser, userColumns } from './users.ts';

/** The client of a request. */
export interface Origin {
  /** Address of the client, not of a proxy. Without it, only the account is limited. */
  ipAddress?: string | undefined;
  userAgent?: string | undefined;
}

export interface Credentials extends Origin {
  /** Case-insensitive. */
  email: string;
  password: string;
}

export interface AuthenticateOptions {
  /** bcrypt cost, 10 to 20, default 12. A login replaces a cheaper hash. Use one cost in all applications. */
  cost?: number;
  /** Default: `defaultLoginLimits`. */
  limits?: Partial<LoginLimits>;
}

/**
 * `credentials`: unknown e-mail, wrong password or inactive user. The result does not reveal which.
 * `limited`: too many failures. The password was not checked and may be correct.
 */
export type LoginFailure =
  | { ok: false; reason: 'credentials' }
  | { ok: false; reason: 'limited'; retryAfterMs: number };

export type Login = { ok: true; user: AuthenticatedUser } | LoginFailure;

/**
 * Checks e-mail and password, updates `last_login_at`, and limits failures. A failure is returned, because an
 * error would roll back a surrounding transaction and with it the count. Pass the pool, because a transaction
 * would keep the counters locked while bcrypt runs.
 * @throws ValidationError for an argument of the wrong type, an invalid IP address, or an option out of range.
 */
export async function authenticate(
  coreDb: AnyDatabase,
  credentials: Credentials,
  options: AuthenticateOptions = {},
): Promise<Login> {
  const { email, password, ipAddress, userAgent } = requireFields(credentials, 'credentials');
  const attempter = {
    email: parseEmail(email),
    address: parseAddress(ipAddress),
    userAgent: parseUserAgent(userAgent),
  };
  const checked = await checkPassword(coreDb, attempter, requireString(password, 'password'), options);
  if (!checked.ok) return checked;
  let user = await recordLogin(coreDb, checked, password);
  if (!user) {
    // While bcrypt ran, another login replaced the hash, the password changed, or the user was deactivated.
    const again = await findMatch(coreDb, checked.email, password, checked.cost);
    user = again && (await recordLogin(coreDb, { ...checked, ...again }, password));
  }
  if (!user) return { ok: false, reason: 'credentials' };
  await forgiveAttempt(coreDb, checked.attempt);
  return { ok: true, user };
}

interface Checked extends Match {
  ok: true;
  email: string;
  cost: number;
  attempt: CountedAttempt;
}

interface Match {
  userId: string;
  passwordHash: string;
}

/** Checks the password of an active user, within the limits. After a success, call `forgiveAttempt`. */
export async function checkPassword(
  coreDb: AnyDatabase,
  { email, ...origin }: Omit<Attempter, 'email'> & { email: string | undefined },
  password: string,
  options: AuthenticateOptions,
): Promise<Checked | LoginFailure> {
  const cost = requireCost(requireFields(options, 'options').cost ?? defaultCost);
  const limits = parseLimits(options.limits);
  // No user can have such an e-mail or password. The format alone shows this, so an early return reveals nothing.
  if (email === undefined || !isPossible(password)) return { ok: false, reason: 'credentials' };
  const counted = await countAttempt(coreDb, { email, ...origin }, limits);
  if ('retryAfterMs' in counted) return { ok: false, reason: 'limited', retryAfterMs: counted.retryAfterMs };
  const match = await findMatch(coreDb, email, password, cost);
  if (!match) return { ok: false, reason: 'credentials' };
  return { ok: true, ...match, email, cost, attempt: counted };
}

/** Finds the active user with this e-mail and password. An unknown e-mail takes the same work. */
async function findMatch(
  coreDb: AnyDatabase,
  email: string,
  password: string,
  cost: number,
): Promise<Match | undefined> {
  const { rows } = await databaseOf(coreDb).primary.query<{
    id: string;
    password_hash: string;
    is_active: boolean;
  }>('SELECT id, password_hash, is_active FROM users WHERE email = $1', [email]);
  const [user] = rows;
  const matches = await comparePassword(password, user?.password_hash, cost);
  return matches && user?.is_active ? { userId: user.id, passwordHash: user.password_hash } : undefined;
}

async function recordLogin(
  coreDb: AnyDatabase,
  { userId, passwordHash, cost }: Match & { cost: number },
  password: string,
): Promise<AuthenticatedUser | undefined> {
  const renewed = isOutdated(passwordHash, cost) ? await hashPassword(password, cost) : passwordHash;
  const { rows } = await databaseOf(coreDb).query<AuthenticatedUser>(
    `WITH login AS (
       UPDATE users SET last_login_at = clock_timestamp(), password_hash = $3
       WHERE id = $1 AND is_active AND password_hash = $2
       RETURNING id, email, name, email_verified, avatar_url, last_login_at, created_at
     ) SELECT ${userColumns('login')} FROM login`,
    [userId, passwordHash, renewed],
  );
  return rows[0];
}
