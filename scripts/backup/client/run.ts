// Runs a client program, such as pg_dump or pgBackRest, and reports errors with the program's messages.
import { spawn } from 'node:child_process';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { childEnvironment, type Environment } from '../../../src/config.ts';
import { BackupError } from '../errors.ts';

export interface ProgramOptions {
  environment?: Environment;
  signal?: AbortSignal | undefined;
  onStart?: ((pid: number) => Promise<void>) | undefined;
  /** Called with each line of stderr. */
  onLine?: ((line: string) => void) | undefined;
}

/** How many of the last lines of stderr an error contains: enough for a failed statement. */
const linesKept = 12;

/**
 * @returns the stdout of the program.
 * @throws BackupError with the last lines of stderr, or the reason of an aborted `signal`, after the program ended.
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
  } catch (error) {
    // If `onStart` failed, the program still runs.
    stop();
    await ended.catch(() => undefined);
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

// Skips the lines before the first error, such as warnings.
function complaint(lines: readonly string[]): string {
  const first = lines.findIndex((line) => /\b(error|fatal):/i.test(line));
  return lines.slice(first < 0 ? -3 : first).join('\n') || 'it said nothing.';
}
