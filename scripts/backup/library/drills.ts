// drills.json, beside the backups: when db:drill last tested each database, and how many problems it found.
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { count, time } from './manifest.ts';

const name = 'drills.json';

const drills = v.record(v.string(), v.object({ at: time, problems: count }));

/** The last drill of each database, by the key of the database. `at` is the time of the drill. */
export type Drills = v.InferOutput<typeof drills>;

/** @param parent The folder that holds the backups. @returns an empty object if the file is missing or damaged. */
export async function readDrills(parent: string): Promise<Drills> {
  try {
    return v.parse(drills, JSON.parse(await readFile(join(parent, name), 'utf8')));
  } catch {
    return {};
  }
}

/** Replaces the records of the databases in `done`. */
export async function recordDrills(parent: string, done: Drills): Promise<void> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const path = join(parent, name);
  const written = `${path}.${process.pid}`;
  await writeFile(written, `${JSON.stringify({ ...(await readDrills(parent)), ...done }, null, 2)}\n`, {
    mode: 0o600,
  });
  await rename(written, path);
}
