// rehearse: tries the pending migrations on a copy of the data, and reports what they block, rewrite and cost.
import { type Command, InvalidArgumentError } from 'commander';
import { ConfigurationError } from '../../src/errors.ts';
import { selectTargets } from '../../src/targets.ts';
import { printJson } from '../cli/output.ts';
import { saysWhere } from '../cli/where.ts';
import { defaultMaxBlock, type RehearsalOptions, rehearseDatabases } from '../rehearse/databases.ts';
import { printRehearsal } from '../rehearse/report.ts';
import { defaultFolder } from './backup.ts';

export function registerRehearse(program: Command): void {
  saysWhere(program.command('rehearse'))
    .description(
      'try the pending migrations on a restored backup: what they block and for how long, what they rewrite, and their way back',
    )
    .argument('[database...]', 'which; default: all with pending migrations')
    .option('--from <backup>', 'a folder, or the newest backup that holds the database', 'latest')
    .option('--live', 'dump the database for it, instead of a backup')
    .option('--to <folder>', 'where backups are, or the dump stands meanwhile', defaultFolder)
    .option('--traffic', 'read and write every table meanwhile, and tell the longest wait')
    .option(
      '--max-block <seconds>',
      'how long a migration may block a table; exit 3 above',
      seconds,
      defaultMaxBlock,
    )
    .option('--json', 'print JSON')
    .action(async (names: string[], options: RehearsalOptions & { json?: boolean }) => {
      if (options.live && options.from !== 'latest') {
        throw new ConfigurationError(
          '--live makes a dump of its own and --from names one: give one of them.',
        );
      }
      const rehearsals = await rehearseDatabases(selectTargets(names), options);
      if (options.json) printJson(rehearsals);
      else for (const rehearsal of rehearsals) printRehearsal(rehearsal);
      if (!options.json && rehearsals.length === 0) console.log('Nothing is pending.');
      if (rehearsals.some(({ problems }) => problems.length > 0)) process.exitCode = 3;
    });
}

function seconds(text: string): number {
  if (/^\d{1,6}(\.\d{1,3})?$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It should be a number of seconds, such as 0.5.');
}
