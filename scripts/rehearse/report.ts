// Describes the findings of rehearsals: problems, and what applications would notice.
import { formatBytes, formatCount, plural, printTable } from '../cli/output.ts';
import { formatMode } from './lock-modes.ts';
import type { RelationEffect } from './observe.ts';
import type { DatabaseRehearsal, MigrationRehearsal } from './rehearse.ts';

/** Returns a sentence for each long block that the migration does not accept, and for each problem of a down file. */
export function findProblems(migrations: readonly MigrationRehearsal[], maxBlockMs: number): string[] {
  return migrations.flatMap(({ tag, path, relations, acceptedReason, down }) => {
    const long = relations.filter(({ blocksWritesMs }) => blocksWritesMs > maxBlockMs);
    const blocks = acceptedReason === null ? long : [];
    return [
      ...blocks.map(
        (effect) =>
          `${tag} ${describeBlock(effect)} on ${effect.relation}, longer than ${formatMs(maxBlockMs)}: docs/migrations.md has safe forms, ` +
          `or accept it by a line "-- blocks: reason" at the top of ${path}.`,
      ),
      ...down.problems.map((problem) => `${tag}: ${problem}`),
    ];
  });
}

/** `blocks reads and writes for 12.3 s` */
function describeBlock({ blocksReadsMs, blocksWritesMs }: RelationEffect): string {
  if (blocksReadsMs === 0) return `blocks writes for ${formatMs(blocksWritesMs)}`;
  // Times that differ by less than 5% are reported as one.
  if (blocksReadsMs > blocksWritesMs * 0.95) return `blocks reads and writes for ${formatMs(blocksWritesMs)}`;
  return `blocks writes for ${formatMs(blocksWritesMs)}, reads for ${formatMs(blocksReadsMs)}`;
}

/** The longest time for which a migration of these rehearsals blocks writes, in milliseconds. */
export const longestBlock = (rehearsals: readonly Pick<DatabaseRehearsal, 'migrations'>[]): number =>
  Math.max(
    0,
    ...rehearsals.flatMap(({ migrations }) =>
      migrations.flatMap(({ relations }) => relations.map(({ blocksWritesMs }) => blocksWritesMs)),
    ),
  );

export function printRehearsal({ database, backup, migrations, problems }: DatabaseRehearsal): void {
  console.log(`${database}, on ${backup === null ? 'a dump of now' : backup}\n`);
  for (const migration of migrations) printMigration(migration);
  for (const problem of problems) console.error(problem);
}

function printMigration(migration: MigrationRehearsal): void {
  const { tag, durationMs, walBytes, diskBytes, rowsChanged, relations, down, traffic, acceptedReason } =
    migration;
  const cost = [
    formatMs(durationMs),
    `${formatBytes(walBytes)} of WAL`,
    `${formatBytes(diskBytes)} of disk`,
    ...(rowsChanged > 0 ? [`${plural(rowsChanged, 'row')} changed`] : []),
  ];
  console.log(`${tag}: ${cost.join(', ')}`);
  const touched = relations.filter(
    (effect) => effect.blocksWritesMs > 0 || effect.rewrittenBytes > 0 || effect.indexesBuilt.length > 0,
  );
  if (touched.length > 0) {
    printTable(
      ['relation', 'lock', 'effect'],
      touched.map((effect) => [effect.relation, formatMode(effect.strongestLock), describeEffect(effect)]),
    );
  }
  const longest = longestBlock([{ migrations: [migration] }]);
  console.log(
    `no wait longer than ${formatMs(longest)}${acceptedReason === null ? '' : `, accepted: ${acceptedReason}`}`,
  );
  if (traffic) {
    const { reads, writes } = traffic;
    const waited = (what: string, { ms, table, statements }: typeof reads) =>
      `${formatCount(statements)} ${what}, the slowest ${formatMs(ms)}${table === null ? '' : ` (${table})`}`;
    console.log(`beside it: ${waited('reads', reads)}; ${waited('writes', writes)}`);
  }
  console.log(`down: ${describeDown(down)}\n`);
}

function describeEffect(effect: RelationEffect): string {
  return [
    ...(effect.blocksWritesMs > 0 ? [describeBlock(effect)] : []),
    ...(effect.rewrittenBytes > 0 ? [`rewrites it, ${formatBytes(effect.rewrittenBytes)}`] : []),
    ...(effect.indexesBuilt.length > 0 ? [`builds ${effect.indexesBuilt.join(', ')}`] : []),
  ].join('; ');
}

function describeDown({ durationMs, irreversibleReason, problems }: MigrationRehearsal['down']): string {
  if (irreversibleReason !== null) return `none, ${irreversibleReason}`;
  if (problems.length > 0) return 'does not work, see below';
  return durationMs === null
    ? 'not tried, because a later one does not come back'
    : `${formatMs(durationMs)}, the catalog is as before`;
}

/** 40 → "40 ms", 12345 → "12.3 s". */
export const formatMs = (ms: number): string =>
  ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
