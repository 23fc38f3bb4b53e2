// Asks pgBackRest which backups a stanza has.
import * as v from 'valibot';
import { BackupError } from '../errors.ts';
import { runClientProgram } from './run.ts';

const status = v.object({ code: v.number(), message: v.string() });
/** Identifies a cluster in a repository. An upgrade to a new major version changes the id. */
const cluster = { id: v.number(), 'repo-key': v.number() };

const stanza = v.object({
  name: v.string(),
  status,
  repo: v.array(v.object({ key: v.number(), status })),
  db: v.array(v.object({ ...cluster, 'system-id': v.number() })),
  backup: v.array(
    v.object({
      label: v.string(),
      type: v.picklist(['full', 'diff', 'incr']),
      database: v.object(cluster),
      /** Whether pages had a wrong checksum. Not known if the cluster has no checksums. */
      error: v.nullish(v.boolean()),
      /** Seconds since 1970. */
      timestamp: v.object({ stop: v.number() }),
    }),
  ),
});
/** The documentation of pgBackRest promises to keep this output stable. */
const information = v.pipe(v.string(), v.parseJson(), v.array(stanza));

export type Stanza = v.InferOutput<typeof stanza>;

/** Values of `status.code`. All others are errors. */
export const stanzaStatus = { ok: 0, noPath: 1, noBackup: 2, noData: 3 } as const;

/** @throws BackupError if pgBackRest is not installed, fails, prints unexpected output or does not list the stanza. */
export async function readStanza(name: string): Promise<Stanza> {
  const output = await askPgBackRest(name);
  const { output: stanzas, issues, success } = v.safeParse(information, output, { abortEarly: true });
  const found = success ? stanzas.find((one) => one.name === name) : undefined;
  if (found) return found;
  const wrong = issues
    ? `${v.getDotPath(issues[0]) ?? 'the output'}: ${issues[0].message}`
    : 'it is not there';
  throw new BackupError(`What "pgbackrest info" prints about the stanza ${name} cannot be read: ${wrong}.`);
}

async function askPgBackRest(name: string): Promise<string> {
  const environment = {
    PGBACKREST_STANZA: name,
    PGBACKREST_LOG_LEVEL_CONSOLE: 'off',
    PGBACKREST_LOG_LEVEL_STDERR: 'error',
    // Newer versions refuse root, because the server's user could not read root's files. `info` writes no files.
    PGBACKREST_ALLOW_ROOT: 'y',
  };
  try {
    return await runClientProgram('pgbackrest', ['info', '--output=json'], { environment });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new BackupError(`PGBACKREST_STANZA is "${name}", but pgbackrest is not on the PATH.`);
  }
}
