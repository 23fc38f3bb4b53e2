// npm run db:lint: squawk over the migrations. It colours its output for a pipe and under NO_COLOR too.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { stripVTControlCharacters } from 'node:util';
import { childEnvironment } from '../../src/config.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';

const { status, stdout, stderr, error } = spawnSync(
  process.execPath,
  [createRequire(import.meta.url).resolve('squawk-cli/js/bin/squawk'), 'drizzle/*/*.sql'],
  { cwd: packageRoot(), env: childEnvironment({}), encoding: 'utf8' },
);
if (error) throw error;
const isPlain = !process.stdout.isTTY || Boolean(process.env.NO_COLOR);
const output = `${stdout}${stderr}`.trimEnd();
console.log(isPlain ? stripVTControlCharacters(output) : output);
process.exitCode = status ?? 1;
