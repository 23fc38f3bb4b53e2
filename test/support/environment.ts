// Tests and the programs that they start see no setting but their own: no .env, no variable of the shell, no cluster
// of `npm run dev`.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { compiledFolder } from './names.ts';

/** Where commands run unless a test names another folder. Nothing is ever written to it. */
export const emptyFolder = join(packageRoot(), compiledFolder, 'empty');

/** Only what a process needs to run. */
export const bareEnvironment = {
  PATH: process.env.PATH ?? '',
  HOME: process.env.HOME ?? '',
  ...(process.env.PG_BIN && { PG_BIN: process.env.PG_BIN }),
};

/** Of libpq, of the registry, of an application and of roles. PG_BIN and TEST_… say how the suite runs. */
const settings = /^(?!PG_BIN$|TEST_)(PG.*|ATRIZ_.*|APP|.*DATABASE_URL|.*_PASSWORD)$/;

/** For a process of the suite itself. */
export function forgetSettings(): void {
  for (const name of Object.keys(process.env)) if (settings.test(name)) delete process.env[name];
  mkdirSync(emptyFolder, { recursive: true });
  process.chdir(emptyFolder);
}
