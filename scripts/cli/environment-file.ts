// Reads .env for the commands. Applications load their own .env, because the library does not read one.
import dotenv from 'dotenv';
import { clusterPath } from '../../src/config.ts';

const namesFromFile = new Set<string>();

/** Reads `.env` of the current folder into the environment, without overriding variables that already exist. */
export function loadEnvironmentFile(): void {
  const before = new Set(Object.keys(process.env));
  const { parsed = {} } = dotenv.config({ quiet: true });
  namesFromFile.clear();
  for (const name of Object.keys(parsed)) if (!before.has(name)) namesFromFile.add(name);
}

/** Says where the variables in `origin` were set: in .env, in the environment, or by the embedded cluster. */
export function sourceOf(origin: string): string {
  if (origin === clusterPath) return 'the embedded cluster in .atriz/';
  return origin.split(', ').some((name) => namesFromFile.has(name)) ? '.env' : 'the environment';
}
