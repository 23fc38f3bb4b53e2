// Benchmark of authentication: time of refused logins, delay of the event loop, tokens per second.
import { createHash } from 'node:crypto';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import bcrypt from 'bcryptjs';
import {
  authenticate,
  consumeToken,
  hashPassword,
  issueToken,
  rotateRefreshToken,
  verifyToken,
} from '../../src/auth/index.ts';
import { migrate } from '../../src/migrations/index.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { formatCount, printTable } from '../cli/output.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { scratchName } from './scratch.ts';
import { timed } from './timing.ts';

const password = 'correct horse';
const atOnce = 8;
const tokenCount = 2_000;

export async function benchAuth(rounds: number, cost: number): Promise<void> {
  await withScratchDatabase('core', scratchName('auth'), async (pool, url) => {
    await migrate(pool, 'core');
    await using core = createDatabasePool({ connectionString: url });
    await benchRefusals(core, rounds, cost);
    await benchEventLoop(cost);
    await benchTokens(core);
  });
}

/**
 * Tries each kind of refused login once per round. Every second round has the reverse order, so that other load
 * affects all kinds equally. The processor time includes all threads of this process.
 */
async function benchRefusals(core: Pool, rounds: number, cost: number): Promise<void> {
  const current = await hashPassword(password, cost);
  const users = {
    'wrong password': { email: 'active@example.com', hash: current, active: true },
    'inactive user': { email: 'inactive@example.com', hash: current, active: false },
    'old hash, cost 6': { email: 'old@example.com', hash: await bcrypt.hash(password, 6), active: true },
    'no bcrypt hash': { email: 'none@example.com', hash: '!', active: true },
  };
  for (const { email, hash, active } of Object.values(users)) {
    await core.query(
      "INSERT INTO users (email, password_hash, name, is_active) VALUES ($1, $2, 'Bench', $3)",
      [email, hash, active],
    );
  }
  const attempts = [
    ...Object.entries(users).map(([kind, { email, active }]) => ({
      kind,
      email,
      secret: active ? 'wrong' : password,
    })),
    { kind: 'unknown user', email: 'nobody@example.com', secret: password },
  ].map((attempt) => ({ ...attempt, times: [] as number[], work: [] as number[] }));
  const options = { cost, limits: { account: { failures: 100_000, windowMs: 100_000 } } };
  for (let round = -1; round < rounds; round += 1) {
    const [first, ...others] = attempts;
    const turns = round % 2 === 0 ? attempts : [...others.reverse(), ...(first ? [first] : [])];
    for (const { email, secret, times, work } of turns) {
      const before = process.cpuUsage();
      const time = await timed(() => authenticate(core, { email, password: secret }, options));
      const { user, system } = process.cpuUsage(before);
      // The first round only warms up.
      if (round < 0) continue;
      times.push(time);
      work.push((user + system) / 1000);
    }
  }
  const [base] = attempts;
  const ratio = (values: readonly number[], other: readonly number[] = []) =>
    (quantile(values, 0.5) / quantile(other, 0.5)).toFixed(3);
  printTable(
    [`refused login, cost ${cost}, ${rounds} each`, 'p10', 'median', 'p90', 'ratio', 'processor', 'ratio'],
    attempts.map(({ kind, times, work }) => [
      kind,
      ...[0.1, 0.5, 0.9].map((part) => `${quantile(times, part).toFixed(1)} ms`),
      ratio(times, base?.times),
      `${quantile(work, 0.5).toFixed(1)} ms`,
      ratio(work, base?.work),
    ]),
  );
}

async function benchEventLoop(cost: number): Promise<void> {
  const hashes: Record<string, (count: number) => Promise<unknown>> = {
    hashPassword: (count) => Promise.all(Array.from({ length: count }, () => hashPassword(password, cost))),
    'bcryptjs in this thread': (count) =>
      Promise.all(Array.from({ length: count }, () => bcrypt.hash(password, cost))),
  };
  const rows = [];
  for (const [name, work] of Object.entries(hashes)) {
    for (const count of [1, atOnce]) {
      const delay = monitorEventLoopDelay({ resolution: 1 });
      // Gives earlier work time to end, so that its delay is not counted.
      await sleep(20);
      delay.enable();
      const time = await timed(() => work(count));
      delay.disable();
      const delays = [delay.percentile(50), delay.percentile(99), delay.max];
      rows.push([
        `${name}, ${count} at once`,
        ...delays.map((nanoseconds) => `${(nanoseconds / 1e6).toFixed(1)} ms`),
        `${((count / time) * 1000).toFixed(1)} /s`,
      ]);
    }
  }
  console.log();
  printTable(['delay of the event loop, timer of 1 ms', 'median', 'p99', 'longest', 'hashes'], rows);
}

async function benchTokens(core: Pool): Promise<void> {
  const { rows } = await core.query<{ id: string }>(
    `INSERT INTO users (email, password_hash, name)
     SELECT 'token' || n || '@example.com', '!', 'Bench' FROM generate_series(1, $1::int) AS n RETURNING id`,
    [tokenCount],
  );
  const users = rows.map(({ id }) => id);
  const speeds: string[][] = [];
  const measure = async <Result>(what: string, work: (index: number) => Promise<Result>) => {
    let results: Result[] = [];
    const time = await timed(async () => {
      results = await Promise.all(users.map((_, index) => work(index)));
    });
    speeds.push([what, `${formatCount(Math.round((users.length / time) * 1000))} /s`]);
    return results;
  };
  const issue = (type: 'refresh' | 'password_reset') => (index: number) =>
    issueToken(core, { userId: users[index] ?? '', type });
  const refresh = await measure('issueToken', issue('refresh'));
  const reset = await measure('issueToken', issue('password_reset'));
  const hash = (token = '') => createHash('sha256').update(token).digest('hex');
  await measure('bare lookup by token_hash', (index) =>
    core.sql`SELECT user_id FROM auth_tokens WHERE token_hash = ${hash(refresh[index]?.token)}`.execute(),
  );
  await measure('verifyToken', (index) => verifyToken(core, refresh[index]?.token ?? '', 'refresh'));
  await measure('rotateRefreshToken', (index) => rotateRefreshToken(core, refresh[index]?.token ?? ''));
  await measure('consumeToken', (index) => consumeToken(core, reset[index]?.token ?? '', 'password_reset'));
  console.log();
  printTable([`${tokenCount} tokens, 10 connections`, 'speed'], speeds);
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor((sorted.length - 1) * part)] ?? Number.NaN;
}
