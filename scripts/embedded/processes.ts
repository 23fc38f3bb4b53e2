// Information about other processes: start time, command line, and whether they have ended.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { isAlive } from '../../src/config.ts';

const run = promisify(execFile);

/**
 * Returns the start time of a process, which distinguishes it from a later process with the same pid. Returns 'ended'
 * for a zombie, undefined if the system does not report the time.
 */
export async function startMark(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Fields 3 (state) and 22 (start time in ticks since boot) of proc(5). The command may contain spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended; its parent has not waited for it yet.
    if (fields[0] === 'Z' || fields[0] === 'X') return 'ended';
    const ticks = fields[19];
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    return ticks === undefined ? undefined : `${boot.trim()}:${ticks}`;
  } catch {
    return ps(pid, 'lstart=');
  }
}

/** Whether the process with this start mark still runs. With another mark, it is a later process with the same pid. */
export async function isRunning(pid: number, mark: string | null | undefined): Promise<boolean> {
  if (!isAlive(pid)) return false;
  const now = await startMark(pid);
  return now === undefined || !mark || now === mark;
}

/** Returns the command line of a process, or an empty string if the system does not report it. */
export async function commandLine(pid: number): Promise<string> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
  } catch {
    return (await ps(pid, 'command=')) ?? '';
  }
}

/** Returns true once the process has ended, false if it still runs after the given time. */
export async function waitForExit(pid: number, milliseconds: number): Promise<boolean> {
  const deadline = Date.now() + milliseconds;
  while (isAlive(pid)) {
    if (Date.now() > deadline) return false;
    await sleep(25);
  }
  return true;
}

async function ps(pid: number, column: string): Promise<string | undefined> {
  try {
    const { stdout } = await run('ps', ['-o', column, '-p', String(pid)]);
    return stdout.trim() || undefined;
  } catch {
    return undefined;
  }
}
