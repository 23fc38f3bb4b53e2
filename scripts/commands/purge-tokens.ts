// purge-tokens: deletes expired tokens and counters of failed logins, in batches.
import type { Command } from 'commander';
import { purgeExpiredTokens, purgeLoginAttempts } from '../../src/auth/index.ts';
import { countExpired } from '../../src/auth/purge.ts';
import type { Pool } from '../../src/pool.ts';
import { formatCount, plural, printJson } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { saysWhere } from '../cli/where.ts';

export function registerPurgeTokens(program: Command): void {
  saysWhere(program.command('purge-tokens'), ['core'])
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
  const expired = await countExpired(pool);
  const format = '{bar} {rows} of {expired} expired rows deleted | {eta_formatted} left';
  using bar = startBar(format, expired, { rows: '0', expired: formatCount(expired) });
  const show = (deleted: number) => bar.update(deleted, { rows: formatCount(deleted) });
  const tokens = await purgeExpiredTokens(pool, { onProgress: show });
  const onProgress = (deleted: number) => show(tokens + deleted);
  return { tokens, loginAttempts: await purgeLoginAttempts(pool, { onProgress }) };
}
