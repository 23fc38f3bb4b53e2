// refresh-late: brings points of phones that were offline into the hourly aggregate.
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { refreshLateLocations } from '../../src/tracking/late.ts';
import { plural, printJson } from '../output.ts';
import { withPool } from '../session.ts';

export function registerRefreshLate(program: Command): void {
  program
    .command('refresh-late')
    .description(
      'refresh the hours that got points after the refresh policy had left them; run it every hour',
    )
    .option('--json', 'print JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const bar = new SingleBar({
        format: '{bar} {value} of {total} ranges',
        stream: process.stderr,
        hideCursor: true,
      });
      let isStarted = false;
      try {
        const result = await withPool('tracking', (pool) =>
          refreshLateLocations(pool, {
            onProgress: (done, total) => {
              if (!isStarted) bar.start(total, 0);
              isStarted = true;
              bar.update(done);
            },
          }),
        );
        bar.stop();
        if (json) printJson(result);
        else report(result);
      } finally {
        bar.stop();
      }
    });
}

function report({ ranges, tooOld }: Awaited<ReturnType<typeof refreshLateLocations>>): void {
  if (ranges.length + tooOld.length === 0) console.log('No late points.');
  for (const { from, to } of ranges) {
    console.log(`refreshed ${from.toISOString()} to ${to.toISOString()}`);
  }
  if (tooOld.length > 0) {
    console.log(
      `${plural(tooOld.length, 'hour')} left as they are: their raw points may be dropped already, and a ` +
        'refresh would delete what their summary has.',
    );
  }
}
