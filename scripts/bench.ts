// npm run bench -- <name>: measures our code and its peers in the same run. Compare ratios, not absolute times.
import { Command } from 'commander';
import { benchAuth } from './bench/auth.ts';
import { type BackupBenchOptions, benchBackup } from './bench/backup.ts';
import { benchCapacity } from './bench/capacity.ts';
import { benchGrowth } from './bench/growth.ts';
import { benchImport } from './bench/import.ts';
import { benchMigrate } from './bench/migrate.ts';
import { benchReferences } from './bench/references.ts';
import { describeMachine } from './bench/timing.ts';
import { benchTracking, type TrackingBenchOptions } from './bench/tracking.ts';
import { countingNumber, runProgram } from './cli/arguments.ts';

const program = new Command('bench')
  .description('measure against a peer, on the server that the settings name')
  .exitOverride()
  .hook('preAction', () => console.log(describeMachine()));
program
  .command('migrate')
  .description('all databases from empty, and with nothing to do, against drizzle-kit migrate')
  .option('--rounds <count>', 'how often', countingNumber, 3)
  .action(({ rounds }: { rounds: number }) => benchMigrate(rounds));
program
  .command('auth')
  .description('who is refused takes equally long, the event loop stays free, tokens per second')
  .option('--rounds <count>', 'logins of each kind', countingNumber, 25)
  .option('--cost <cost>', 'bcrypt cost', countingNumber, 12)
  .action(({ rounds, cost }: { rounds: number; cost: number }) => benchAuth(rounds, cost));
program
  .command('tracking')
  .description(
    'writing and reading points against drizzle, bare postgres.js and psql; writes JSON and an SVG chart',
  )
  .option('--url <url>', 'a server, by the URL of any of its databases; default: that of tracking')
  .option('--rows <count>', 'points to write', countingNumber, 200_000)
  .option('--rounds <count>', 'how often', countingNumber, 3)
  .option('--out <folder>', 'where bench-tracking.json and .svg go; default: here')
  .action((options: TrackingBenchOptions) => benchTracking(options));
program
  .command('import')
  .description('memory while importing many points')
  .option('--url <url>', 'a server, by the URL of any of its databases; default: that of tracking')
  .option('--rows <count>', 'points to import', countingNumber, 10_000_000)
  .action((options: { url?: string; rows: number }) => benchImport(options));
program
  .command('growth')
  .description(
    'reads, writes and jobs at 1, 10, 30 and 100 million points over 29 days; writes JSON and an SVG chart',
  )
  .option('--url <url>', 'a server, by the URL of any of its databases; default: that of tracking')
  .option('--rows <count>', 'the most points', countingNumber, 10_000_000)
  .option('--out <folder>', 'where bench-growth.json and .svg go; default: here')
  .action((options: { url?: string; rows: number; out?: string }) => benchGrowth(options));
program
  .command('capacity')
  .description(
    'bytes per GPS point: raw, compressed and per hour, in a scratch database of the tracking server',
  )
  .option('--vehicles <count>', 'how many drive', countingNumber, 50)
  .option('--days <count>', '8 hours a day, a point every 30 seconds', countingNumber, 10)
  .action(({ vehicles, days }: { vehicles: number; days: number }) => benchCapacity(vehicles, days));
program
  .command('backup')
  .description('four filled databases into one folder, against bare pg_dump -Fc one after another')
  .option('--rounds <count>', 'how often', countingNumber, 3)
  .option('--rows <count>', 'in each database', countingNumber, 1_000_000)
  .option('--points <count>', 'tracking instead, with so many points: backup and drill', countingNumber)
  .action((options: BackupBenchOptions) => benchBackup(options));
program
  .command('references')
  .description('time and memory of looking for rows whose user does not exist, in scratch databases')
  .option('--people <count>', 'in core, each with a row in pshop', countingNumber, 1_000_000)
  .option('--rounds <count>', 'how often', countingNumber, 3)
  .action(({ people, rounds }: { people: number; rounds: number }) => benchReferences(people, rounds));
await runProgram(program);
