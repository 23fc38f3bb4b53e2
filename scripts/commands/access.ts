// access: who may do what in which database; applies the matrix, checks it, shows it, rotates passwords.
import type { Command } from 'commander';
import { type AccessDifference, checkAccess } from '../../src/access/check.ts';
import { rolesOf } from '../../src/access/matrix.ts';
import { generatePassword, type OldSession, rotatePassword } from '../../src/access/passwords.ts';
import { rolePassword, rolePasswordVariable, selectDatabases } from '../../src/config.ts';
import { type DatabaseKey, databaseKeys } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { applyMatrix, describeRefused, matrixOf } from '../access.ts';
import { plural, printJson, printTable } from '../output.ts';
import { withPool } from '../session.ts';

interface Options {
  json?: boolean;
}

export function registerAccess(program: Command): void {
  const command = program
    .command('access')
    .description('roles and grants: apply the matrix, check it, show it, rotate a password');
  command
    .command('apply')
    .description('make roles, owners and grants what the matrix says; prints the passwords that it makes')
    .argument('[database...]', 'which; default: all')
    .option('--dry-run', 'print the SQL, run none of it')
    .option('--json', 'print JSON')
    .action(apply);
  command
    .command('check')
    .description('compare the matrix with the live databases; exit 3 on any difference')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .action(check);
  command
    .command('show')
    .description('print the matrix; needs no server')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .action(show);
  command
    .command('rotate')
    .description('give a role a new password, and list the sessions that began with the old one')
    .argument('<role>', 'a role of the matrix')
    .option('--json', 'print JSON')
    .action(rotate);
}

async function apply(names: string[], { json, dryRun }: Options & { dryRun?: boolean }): Promise<void> {
  const results = [];
  const passwords = new Map<string, string>();
  // The same role on two servers gets the same password.
  const generate = (role: string) => {
    const password = passwords.get(role) ?? generatePassword();
    passwords.set(role, password);
    return password;
  };
  for (const key of selectDatabases(names)) {
    if (dryRun) {
      const due = await withPool(key, (pool) => checkAccess(pool, matrixOf(key)));
      results.push({ key, statements: due.map(({ mend }) => mend) });
      if (!json) for (const { mend } of due) console.log(`${key.padEnd(8)}  ${mend};`);
      continue;
    }
    const applied = await withPool(key, (pool) => applyMatrix(pool, key, { generatePassword: generate }));
    const refused = describeRefused(key, applied);
    results.push({ key, ...applied });
    if (refused) process.exitCode = 3;
    if (json) continue;
    const done = [
      ...applied.changes.map(({ mend }) => mend),
      ...applied.passwords.map((role) => `password of ${role}`),
    ];
    console.log(`${key.padEnd(8)}  ${done.length === 0 ? 'nothing to do' : plural(done.length, 'change')}`);
    if (refused) console.error(refused);
  }
  if (json) printJson({ databases: results, generated: Object.fromEntries(passwords) });
  else printPasswords(passwords);
}

function printPasswords(passwords: ReadonlyMap<string, string>): void {
  if (passwords.size === 0) return;
  console.log('\nNew passwords. They are stored nowhere and not shown again:');
  for (const [role, password] of passwords) console.log(`${rolePasswordVariable(role)}=${password}`);
}

async function check(names: string[], { json }: Options): Promise<void> {
  const results: { key: DatabaseKey; differences: AccessDifference[] }[] = [];
  for (const key of selectDatabases(names)) {
    const differences = await withPool(key, (pool) => checkAccess(pool, matrixOf(key)));
    results.push({ key, differences });
    if (json) continue;
    if (differences.length === 0) console.log(`${key.padEnd(8)}  as the matrix says`);
    for (const { what, mend } of differences) console.error(`${key.padEnd(8)}  ${what}. Mend: ${mend};`);
  }
  if (json) printJson(results);
  const wrong = results.filter(({ differences }) => differences.length > 0).map(({ key }) => key);
  if (wrong.length === 0) return;
  process.exitCode = 3;
  if (!json) console.error(`"npm run db:access -- apply ${wrong.join(' ')}" mends all of it.`);
}

function show(names: string[], { json }: Options): void {
  const keys = selectDatabases(names);
  const cells = keys.flatMap((key) => {
    const { owner, access } = matrixOf(key);
    return [{ key, role: owner, may: 'owns' }, ...access.map(({ role, may }) => ({ key, role, may }))];
  });
  if (json) {
    printJson(cells);
    return;
  }
  const roles = [...new Set(cells.map(({ role }) => role))];
  printTable(
    ['role', ...keys],
    roles.map((role) => [
      role,
      ...keys.map((key) => cells.find((cell) => cell.key === key && cell.role === role)?.may ?? '-'),
    ]),
  );
}

async function rotate(role: string, { json }: Options): Promise<void> {
  const keys = databaseKeys.filter((key) => rolesOf(matrixOf(key)).includes(role));
  if (keys.length === 0) {
    const known = [...new Set(databaseKeys.flatMap((key) => rolesOf(matrixOf(key))))];
    throw new ConfigurationError(
      `There is no role "${role}" in the matrix: the roles are ${known.join(', ')}.`,
    );
  }
  const given = rolePassword(role);
  const password = given ?? generatePassword();
  const sessions = new Map<string, OldSession>();
  // Its databases may stand on several servers: each of those knows the role by itself.
  for (const key of keys) {
    const found = await withPool(key, (pool) => rotatePassword(pool, role, password));
    for (const session of found) sessions.set(`${session.pid} ${session.since.toISOString()}`, session);
  }
  const old = [...sessions.values()];
  if (json) {
    printJson({ role, ...(given ? {} : { password }), sessions: old });
    return;
  }
  if (given) console.log(`${role} has the password that ${rolePasswordVariable(role)} holds.`);
  else printPasswords(new Map([[role, password]]));
  if (old.length === 0) return;
  console.log('\nOpen sessions of the role, which go on. SELECT pg_terminate_backend(pid) ends one:');
  printTable(
    ['pid', 'database', 'application', 'address', 'since (UTC)'],
    old.map(({ pid, database, application, address, since }) => [
      pid,
      database,
      application,
      address ?? 'local',
      since.toISOString().slice(0, 19),
    ]),
  );
}
