// Runs one of PostgreSQL's client programs and says in its own words why it failed.
import { spawn } from 'node:child_process';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { childEnvironment, type Environment } from '../../../src/config.ts';
import { BackupError } from '../errors.ts';

export interface ProgramOptions {
  environment?: Environment;
  signal?: AbortSignal | undefined;
  onStart?: ((pid: number) => Promise<void>) | undefined;
  /** Each line that the program says on stderr. */
  onLine?: ((line: string) => void) | undefined;
}

/** More lines than a failed statement takes; the last ones say what went wrong. */
const linesKept = 12;

/**
 * @returns what it printed.
 * @throws BackupError with the last lines of its stderr; when `signal` aborts, after the program has ended.
 */
export async function runClientProgram(
  program: string,
  args: readonly string[],
  { environment = {}, signal, onStart, onLine }: ProgramOptions = {},
): Promise<string> {
  signal?.throwIfAborted();
  const child = spawn(program, args, {
    env: childEnvironment(environment),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stop = () => child.kill('SIGTERM');
  signal?.addEventListener('abort', stop);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    onLine?.(line);
    lines.push(line);
    if (lines.length > linesKept) lines.shift();
  });
  const ended = new Promise<{ code: number | null; killedBy: NodeJS.Signals | null }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, killedBy) => resolve({ code, killedBy }));
  });
  try {
    if (child.pid !== undefined) await onStart?.(child.pid);
    const { code, killedBy } = await ended;
    signal?.throwIfAborted();
    if (code === 0) return output;
    const end = killedBy ? `was ended by ${killedBy}` : `failed with code ${code}`;
    throw new BackupError(`${basename(program)} ${end}:\n${complaint(lines)}`);
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

// With --verbose it tells every step; from its first error on, it tells why it ended.
function complaint(lines: readonly string[]): string {
  const first = lines.findIndex((line) => /\b(error|fatal):/i.test(line));
  return lines.slice(first < 0 ? -3 : first).join('\n') || 'it said nothing.';
}
