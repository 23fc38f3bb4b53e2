// npm run bench -- <name>: times against a peer in the same run. Ratios count, absolute times do not.
import { Command } from 'commander';
import { loadEnvironmentFile, useUtc } from '../src/config.ts';
import { commandLine } from './arguments.ts';
import { benchBackup } from './bench/backup.ts';
import { benchMigrate } from './bench/migrate.ts';

loadEnvironmentFile();
useUtc();
const program = new Command('bench').description(
  'measure against a peer, on the server that the settings name',
);
program
  .command('migrate')
  .description('all databases from empty, and with nothing to do, against drizzle-kit migrate')
  .option('--rounds <count>', 'how often', Number, 3)
  .action(({ rounds }: { rounds: number }) => benchMigrate(rounds));
program
  .command('backup')
  .description('four filled databases into one folder, against bare pg_dump -Fc one after another')
  .option('--rounds <count>', 'how often', Number, 3)
  .option('--rows <count>', 'in each database', Number, 500_000)
  .action(({ rounds, rows }: { rounds: number; rows: number }) => benchBackup(rounds, rows));
await program.parseAsync(commandLine());
