// Questions about other processes: is this pid alive, and is it still the process that we mean?
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { isAlive } from '../../src/config.ts';

const run = promisify(execFile);

/** Differs between two processes that were given the same pid; undefined where the system does not tell. */
export async function startMark(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Fields 3 (state) and 22 (start time in ticks since boot), counted after the command, which may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended and only waits for its parent to notice.
    if (fields[0] === 'Z' || fields[0] === 'X') return 'ended';
    const ticks = fields[19];
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    return ticks === undefined ? undefined : `${boot.trim()}:${ticks}`;
  } catch {
    return ps(pid, 'lstart=');
  }
}

/** The command line of a process, empty where the system does not tell. */
export async function commandLine(pid: number): Promise<string> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
  } catch {
    return (await ps(pid, 'command=')) ?? '';
  }
}

/** True as soon as the process is gone, false when it is still there after the given time. */
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
