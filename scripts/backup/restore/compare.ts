// Compares a backup with the database restored from it. Pure.
import { isDeepStrictEqual } from 'node:util';
import { plural } from '../../cli/output.ts';
import type { Contents } from '../contents.ts';
import type { DatabaseBackup, DatabaseProperties } from '../library/manifest.ts';

type Comparable = Pick<Contents, 'migrations' | 'tables' | 'chunks' | 'extensions'>;

/** One sentence for each difference in tables, rows, checksums, migrations, chunks and extensions. */
export function compareContents(
  backup: Comparable & Pick<DatabaseBackup, 'holds'>,
  found: Comparable,
): string[] {
  const wanted = new Map(backup.tables.map((table) => [table.name, table]));
  const restored = new Map(found.tables.map((table) => [table.name, table]));
  const tables = [...wanted.values()].flatMap(({ name, rows, checksum }) => {
    const other = restored.get(name);
    if (!other) return [`table ${name} is missing`];
    if (other.rows !== rows)
      return [`table ${name} has ${plural(other.rows, 'row')}, the backup says ${rows}`];
    return other.checksum === checksum
      ? []
      : [`table ${name} has the right number of rows, and other contents`];
  });
  // A backup without rows lists only the migrations table.
  const extra = [...restored.keys()].filter((name) => !wanted.has(name) && backup.holds === 'everything');
  return [
    ...tables,
    ...extra.map((name) => `table ${name} is not in the backup`),
    ...differs('migrations', backup.migrations.map(migrationLine), found.migrations.map(migrationLine)),
    ...differs('chunks', backup.chunks.map(chunkLine), found.chunks.map(chunkLine)),
    ...differs('extensions', backup.extensions.map(nameOf), found.extensions.map(nameOf)),
  ];
}

const migrationLine = ({ hash, createdAt }: Contents['migrations'][number]) => `${createdAt} ${hash}`;
const chunkLine = ({ name, chunks, compressed }: Contents['chunks'][number]) =>
  `${name}: ${chunks}, ${compressed} compressed`;
const nameOf = ({ name }: Contents['extensions'][number]) => name;

/** Compares the properties of the database itself, such as owner and locale. One sentence for each difference. */
export function compareProperties(wanted: DatabaseProperties, found: DatabaseProperties): string[] {
  return (Object.keys(wanted) as (keyof DatabaseProperties)[])
    .filter((name) => !isDeepStrictEqual(wanted[name], found[name]))
    .map(
      (name) =>
        `database: ${name} is ${JSON.stringify(found[name])}, the backup says ${JSON.stringify(wanted[name])}`,
    );
}

/** Returns one sentence for each line that is in only one of the two lists. */
export function differs(what: string, wanted: readonly string[], found: readonly string[]): string[] {
  const [inWanted, inFound] = [new Set(wanted), new Set(found)];
  return [
    ...wanted.filter((line) => !inFound.has(line)).map((line) => `${what}: not restored: ${line}`),
    ...found.filter((line) => !inWanted.has(line)).map((line) => `${what}: not in the backup: ${line}`),
  ];
}
