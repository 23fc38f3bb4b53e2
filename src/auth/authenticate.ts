// Logging in: the same work and the same answer for every failed login.
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

/** Where a request comes from. */
export interface Origin {
  /** The client's, not the proxy's. Without it, only the account is limited. */
  ipAddress?: string | undefined;
  userAgent?: string | undefined;
}

export interface Credentials extends Origin {
  /** In any case. */
  email: string;
  password: string;
}

export interface AuthenticateOptions {
  /** bcrypt cost, 10 to 20, default 12. Cheaper hashes are replaced at login. The same in every application. */
  cost?: number;
  /** Default: `defaultLoginLimits`. */
  limits?: Partial<LoginLimits>;
}

/**
 * `credentials`: unknown e-mail, wrong password or inactive user, which nobody can tell apart.
 * `limited`: too many failures; the password was not looked at, and it may be the right one.
 */
export type LoginFailure =
  | { ok: false; reason: 'credentials' }
  | { ok: false; reason: 'limited'; retryAfterMs: number };

export type Login = { ok: true; user: AuthenticatedUser } | LoginFailure;

/**
 * Checks e-mail and password, keeps `last_login_at`, and limits failures. A failure is returned and
 * not thrown: thrown inside of a transaction it would take the count of itself back. Pass the pool:
 * a transaction would hold the counters' rows locked for as long as bcrypt takes.
 * @param coreDb atriz_core.
 * @throws ValidationError for arguments of a wrong type, an invalid address, or a cost out of range.
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
    // Changed while bcrypt was at work: a login at the same time renewed the hash, or the user is barred.
    const again = await findMatch(coreDb, checked.attempter, password, checked.cost);
    user = again && (await recordLogin(coreDb, { ...checked, ...again }, password));
  }
  if (!user) return { ok: false, reason: 'credentials' };
  await forgiveAttempt(coreDb, checked.attempt, checked.limits);
  return { ok: true, user };
}

export interface Checked extends Match {
  ok: true;
  cost: number;
  attempter: Attempter;
  attempt: CountedAttempt;
  limits: LoginLimits;
}

interface Match {
  userId: string;
  passwordHash: string;
}

/** Whether the password is that of an active user, within the limits. Forgiving the attempt is up to the caller. */
export async function checkPassword(
  coreDb: AnyDatabase,
  { email, ...origin }: Omit<Attempter, 'email'> & { email: string | undefined },
  password: string,
  options: AuthenticateOptions,
): Promise<Checked | LoginFailure> {
  const cost = requireCost(requireFields(options, 'options').cost ?? defaultCost);
  const limits = parseLimits(options.limits);
  // What nobody can have shows in the text itself, so that leaving early tells nothing.
  if (email === undefined || !isPossible(password)) return { ok: false, reason: 'credentials' };
  const attempter = { email, ...origin };
  const counted = await countAttempt(coreDb, attempter, limits);
  if ('retryAfterMs' in counted) return { ok: false, reason: 'limited', retryAfterMs: counted.retryAfterMs };
  const match = await findMatch(coreDb, attempter, password, cost);
  if (!match) return { ok: false, reason: 'credentials' };
  return { ok: true, ...match, cost, attempter, attempt: counted.attempt, limits };
}

/** The active user of this e-mail and password. An unknown e-mail takes as much work. */
async function findMatch(
  coreDb: AnyDatabase,
  { email }: Attempter,
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
