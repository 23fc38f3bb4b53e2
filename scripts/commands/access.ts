// access: applies, checks and shows the access matrix, and rotates the passwords of its roles.
import type { Command } from 'commander';
import { rolePassword, rolePasswordVariable } from '../../src/config.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { databaseTargets, selectTargets } from '../../src/targets.ts';
import { type Applied, planAccess } from '../access/apply.ts';
import { type AccessReport, examineAccess } from '../access/check.ts';
import { applyMatrix, matrixOf, printRefused, shortened } from '../access/environment.ts';
import { matrixRoles } from '../access/matrix.ts';
import {
  generatePassword,
  type OldSession,
  openSessions,
  passwordStatement,
  serverOf,
} from '../access/passwords.ts';
import { plural, printJson, printTable } from '../cli/output.ts';
import { catalogOnly, withPool, withPools } from '../cli/pools.ts';
import { saysWhere } from '../cli/where.ts';

interface Options {
  json?: boolean;
}

export function registerAccess(program: Command): void {
  const command = program
    .command('access')
    .description('roles and grants: apply the matrix, check it, show it, rotate a password');
  saysWhere(command.command('apply'))
    .description('make roles, owners and grants what the matrix says; prints the passwords that it makes')
    .argument('[database...]', 'which; default: all')
    .option('--dry-run', 'print the SQL, run none of it')
    .option('--json', 'print JSON')
    .action(apply);
  saysWhere(command.command('check'))
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
  saysWhere(command.command('rotate'))
    .description('give a role a new password, and list the sessions that began with the old one')
    .argument('<role>', 'a role of the matrix')
    .option('--json', 'print JSON')
    .action(rotate);
}

interface ApplyCommandOptions extends Options {
  dryRun?: boolean;
}

async function apply(names: string[], { json, dryRun }: ApplyCommandOptions): Promise<void> {
  const keys = selectTargets(names);
  if (dryRun) return plan(keys, json);
  const results: object[] = [];
  // A role that is on several servers gets the same password on each.
  const made = new Map<string, string>();
  const generated = new Map<string, string>();
  const generate = (role: string) => {
    const password = made.get(role) ?? generatePassword();
    made.set(role, password);
    return password;
  };
  try {
    for (const key of keys) {
      const applied = await withPool(
        key,
        (pool) => applyMatrix(pool, key, { generatePassword: generate }),
        catalogOnly,
      );
      for (const role of applied.passwords) {
        const password = made.get(role);
        if (password !== undefined) generated.set(role, password);
      }
      results.push({ key, ...applied });
      if (applied.refused.length > 0) process.exitCode = 3;
      if (!json) printApplied(key, applied);
    }
  } finally {
    // Print even if a later database fails, because generated passwords are not stored anywhere else.
    if (json) printJson({ databases: results, generated: Object.fromEntries(generated) });
    else printPasswords(generated);
  }
}

async function plan(keys: readonly DatabaseTarget[], json: boolean | undefined): Promise<void> {
  const results = [];
  for (const key of keys) {
    const due = await withPool(key, (pool) => planAccess(pool, matrixOf(key)), catalogOnly);
    results.push({ key, statements: due.map(({ mend }) => mend) });
    if (!json) for (const { mend } of due) console.log(`${key.padEnd(8)}  ${mend};`);
  }
  if (json) printJson({ databases: results, generated: {} });
}

function printApplied(key: DatabaseTarget, applied: Applied): void {
  const { changes, passwords } = applied;
  const count = changes.length + passwords.length;
  console.log(`${key.padEnd(8)}  ${count === 0 ? 'nothing to do' : plural(count, 'change')}`);
  const known = matrixRoles(matrixOf(key));
  for (const { mend, loser, stage } of changes) {
    // Prints only memberships of the connecting role, losses of roles outside the matrix, and dropped user mappings.
    const isMembership = stage === 'owner' && mend.startsWith('GRANT ');
    const isStranger = loser !== undefined && loser !== 'PUBLIC' && !known.includes(loser);
    if (isMembership || isStranger || mend.startsWith('DROP USER MAPPING')) {
      console.log(`${key.padEnd(8)}  ${mend};`);
    }
  }
  printRefused(key, applied);
}

function printPasswords(passwords: ReadonlyMap<string, string>): void {
  if (passwords.size === 0) return;
  console.log('\nNew passwords. They are stored nowhere and not shown again:');
  for (const [role, password] of passwords) console.log(`${rolePasswordVariable(role)}=${password}`);
}

async function check(names: string[], { json }: Options): Promise<void> {
  const results: ({ key: DatabaseTarget } & AccessReport)[] = [];
  const noted = new Set<string>();
  for (const key of selectTargets(names)) {
    const report = await withPool(key, (pool) => examineAccess(pool, matrixOf(key)), catalogOnly);
    const { differences, notes } = report;
    results.push({ key, ...report });
    if (json) continue;
    if (differences.length === 0) console.log(`${key.padEnd(8)}  as the matrix says`);
    for (const { what, mend } of differences) {
      console.error(`${key.padEnd(8)}  ${what}. Mend: ${shortened(mend)};`);
    }
    // Printed once, because databases on the same server may have the same note.
    for (const note of notes.filter((one) => !noted.has(one))) console.log(`${key.padEnd(8)}  note: ${note}`);
    for (const note of notes) noted.add(note);
  }
  if (json) printJson(results);
  const wrong = results.filter(({ differences }) => differences.length > 0).map(({ key }) => key);
  if (wrong.length === 0) return;
  process.exitCode = 3;
  if (!json) console.error(`"npm run db:access -- apply ${wrong.join(' ')}" mends all of it.`);
}

function show(names: string[], { json }: Options): void {
  const keys = selectTargets(names);
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
  const keys = databaseTargets().filter((key) => matrixRoles(matrixOf(key)).includes(role));
  if (keys.length === 0) {
    const known = [...new Set(databaseTargets().flatMap((key) => matrixRoles(matrixOf(key))))];
    throw new ConfigurationError(
      `There is no role "${role}" in the matrix: the roles are ${known.join(', ')}.`,
    );
  }
  const given = rolePassword(role);
  const password = given ?? generatePassword();
  const sessions = new Map<string, OldSession>();
  let isSet = false;
  try {
    await withPools(
      keys,
      async (pools) => {
        // Connect to all servers first: a failure halfway would leave the role with different passwords.
        for (const pool of await oneOfEachServer(keys, pools, role)) {
          await pool.query(passwordStatement(role, password));
          isSet = true;
          for (const session of await openSessions(pool, role)) {
            sessions.set(`${session.pid} ${session.since?.toISOString()}`, session);
          }
        }
      },
      catalogOnly,
    );
  } finally {
    if (isSet) printRotated(role, given === undefined ? password : undefined, [...sessions.values()], json);
  }
}

/**
 * One pool for each server, because every server stores its own password for the role.
 * @throws ConfigurationError if a server lacks the role.
 */
async function oneOfEachServer(
  keys: readonly DatabaseTarget[],
  pools: Readonly<Record<DatabaseTarget, Pool>>,
  role: string,
): Promise<Pool[]> {
  const servers = new Map<string, Pool>();
  for (const key of keys) {
    const server = await serverOf(pools[key], role);
    if (server === undefined) {
      throw new ConfigurationError(
        `The server of ${definitionOf(key).database} has no role ${role}: ` +
          `run "npm run db:access -- apply ${key}". No password was changed.`,
      );
    }
    servers.set(server, pools[key]);
  }
  return [...servers.values()];
}

function printRotated(
  role: string,
  made: string | undefined,
  sessions: readonly OldSession[],
  json: boolean | undefined,
): void {
  if (json) {
    printJson({ role, ...(made === undefined ? {} : { password: made }), sessions });
    return;
  }
  if (made === undefined) console.log(`${role} has the password that ${rolePasswordVariable(role)} holds.`);
  else printPasswords(new Map([[role, made]]));
  if (sessions.length === 0) return;
  console.log('\nOpen sessions of the role, which go on. SELECT pg_terminate_backend(pid) ends one:');
  printTable(
    ['pid', 'database', 'application', 'address', 'since (UTC)'],
    sessions.map(({ pid, database, application, address, since }) => [
      pid,
      database,
      application,
      address ?? 'local',
      since?.toISOString().slice(0, 19) ?? 'unknown',
    ]),
  );
}
