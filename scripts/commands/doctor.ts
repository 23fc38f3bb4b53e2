// doctor: checks the databases and prints a reason and a mend for each finding.
import type { Command } from 'commander';
import { selectTargets } from '../../src/targets.ts';
import { printJson } from '../cli/output.ts';
import { saysWhere } from '../cli/where.ts';
import { checks } from '../doctor/checks.ts';
import { asJson, printReports } from '../doctor/report.ts';
import { hasErrors, runDoctor } from '../doctor/run.ts';

export function registerDoctor(program: Command): void {
  saysWhere(program.command('doctor'))
    .description('look for what is wrong or will be, with a reason and a mend; exit 3 on errors')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `\nLooks at\n${checks.map(({ name, looksAt }) => `  ${name.padEnd(18)}  ${looksAt}`).join('\n')}\n` +
        '\nChanges nothing. To find drift it migrates a scratch database beside the real one, and drops it.',
    )
    .action(async (names: string[], { json }: { json?: boolean }) => {
      const reports = await runDoctor(selectTargets(names));
      if (json) printJson(reports.map(asJson));
      else printReports(reports);
      if (hasErrors(reports)) process.exitCode = 3;
    });
}
