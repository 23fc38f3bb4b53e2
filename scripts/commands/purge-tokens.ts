// purge-tokens: deletes expired tokens and counters of failed logins, in batches.
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { purgeExpiredTokens, purgeLoginAttempts } from '../../src/auth/index.ts';
import { countExpired } from '../../src/auth/purge.ts';
import type { Pool } from '../../src/pool.ts';
import { formatCount, plural, printJson } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';

export function registerPurgeTokens(program: Command): void {
  program
    .command('purge-tokens')
    .description('delete expired tokens and counters of failed logins from atriz_core; safe at any time')
    .option('--json', 'print JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const purged = await withPool('core', purge);
      if (json) return printJson(purged);
      console.log(
        `core      ${plural(purged.tokens, 'token')} and ${plural(purged.loginAttempts, 'login counter')} deleted`,
      );
    });
}

async function purge(pool: Pool) {
  const bar = new SingleBar({
    format: '{bar} {rows} of {expired} expired rows deleted | {eta_formatted} left',
    stream: process.stderr,
    hideCursor: true,
  });
  const expired = await countExpired(pool);
  bar.start(expired, 0, { rows: '0', expired: formatCount(expired) });
  const show = (deleted: number) => bar.update(deleted, { rows: formatCount(deleted) });
  try {
    const tokens = await purgeExpiredTokens(pool, { onProgress: show });
    const loginAttempts = await purgeLoginAttempts(pool, {
      onProgress: (deleted) => show(tokens + deleted),
    });
    return { tokens, loginAttempts };
  } finally {
    bar.stop();
  }
}
