// Defines the command line of @atriz/database. db.ts runs it, and docs/commands.md is generated from it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import * as v from 'valibot';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { registerAccess } from '../commands/access.ts';
import { registerBackup } from '../commands/backup.ts';
import { registerCheck } from '../commands/check.ts';
import { registerClean } from '../commands/clean.ts';
import { registerCreate } from '../commands/create.ts';
import { registerDeploy } from '../commands/deploy.ts';
import { registerDoctor } from '../commands/doctor.ts';
import { registerDrill } from '../commands/drill.ts';
import { registerEraseUser } from '../commands/erase-user.ts';
import { registerExport } from '../commands/export.ts';
import { registerGenerate } from '../commands/generate.ts';
import { registerImport } from '../commands/import.ts';
import { registerMigrate } from '../commands/migrate.ts';
import { registerPrepare } from '../commands/prepare.ts';
import { registerPsql } from '../commands/psql.ts';
import { registerPurgeTokens } from '../commands/purge-tokens.ts';
import { registerReferences } from '../commands/references.ts';
import { registerRehearse } from '../commands/rehearse.ts';
import { registerReport } from '../commands/report.ts';
import { registerReset } from '../commands/reset.ts';
import { registerRestore } from '../commands/restore.ts';
import { registerSeed } from '../commands/seed.ts';
import { registerStatus } from '../commands/status.ts';
import { registerStudio } from '../commands/studio.ts';

export const exitCodes = [
  [0, 'done'],
  [1, 'failed'],
  [2, 'wrong usage or configuration'],
  [3, 'out of step'],
] as const;

const packageVersion = (): string => {
  const file = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
  return v.parse(v.object({ version: v.string() }), JSON.parse(file)).version;
};

/** Builds the command line, which throws a CommanderError instead of ending the process. */
export function buildProgram(): Command {
  const program = new Command('atriz-db')
    .description('Creates, migrates and inspects the five Atriz databases.')
    .version(packageVersion())
    .addHelpText(
      'after',
      `\nExit codes: ${exitCodes.map((pair) => pair.join(' ')).join(', ')}.\n` +
        'No database named means all of them, in order.',
    )
    .showHelpAfterError('(add --help for the options)')
    .exitOverride();

  for (const register of [
    registerPrepare,
    registerCreate,
    registerMigrate,
    registerStatus,
    registerSeed,
    registerClean,
    registerReset,
    registerImport,
    registerExport,
    registerAccess,
    registerReferences,
    registerEraseUser,
    registerPurgeTokens,
    registerBackup,
    registerRestore,
    registerDrill,
    registerDoctor,
    registerReport,
    registerRehearse,
    registerDeploy,
    registerCheck,
    registerGenerate,
    registerStudio,
    registerPsql,
  ]) {
    register(program);
  }
  return program;
}
