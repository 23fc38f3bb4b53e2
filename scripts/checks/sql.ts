// npm run db:lint: runs squawk on the migrations. Removes its colours if stdout is not a terminal or NO_COLOR is set.
import { stripVTControlCharacters } from 'node:util';
import { databaseKeys } from '../../src/databases.ts';
import { readFolder } from '../../src/migrations/journal.ts';
import { runSquawk } from '../drizzle-kit/squawk.ts';

const isPlain = !process.stdout.isTTY || Boolean(process.env.NO_COLOR);
for (const { status, stdout, stderr } of runSquawk(
  databaseKeys.flatMap((key) => readFolder(key).migrations),
)) {
  const output = `${stdout}${stderr}`.trimEnd();
  console.log(isPlain ? stripVTControlCharacters(output) : output);
  if (status !== 0) process.exitCode = status;
}
if (process.exitCode)
  console.log(
    'While a migration is not applied: change it, or accept a rule with "-- squawk-ignore RULE" in the line above.',
  );
