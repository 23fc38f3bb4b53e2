// Which loopback port a server gets: the asked one, the last used one, or the next free one.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { EmbeddedClusterError } from './errors.ts';
import { isRecord, readJson, writeJson } from './files.ts';

export interface Ports {
  plain: number;
  timescaledb: number;
}

/** Thrown by a start function when somebody took the port between the look at it and the listening on it. */
export class PortTaken extends Error {}

const defaults: Ports = { plain: 54317, timescaledb: 54318 };
const attempts = 200;

/** Ports are kept in the folder, because people paste the URLs into env files. */
export async function lastPorts(folder: string): Promise<Partial<Ports>> {
  const stored = await readJson(join(folder, 'ports.json'));
  if (!isRecord(stored)) return {};
  const { plain, timescaledb } = stored;
  return {
    ...(isPort(plain) ? { plain } : {}),
    ...(isPort(timescaledb) ? { timescaledb } : {}),
  };
}

export async function rememberPorts(folder: string, ports: Ports): Promise<void> {
  await writeJson(join(folder, 'ports.json'), ports);
}

/** Starts a server on the first port that it gets. @throws EmbeddedClusterError `port_taken` */
export async function startOnPort<Server>(
  server: keyof Ports,
  folder: string,
  wanted: { asked: number | undefined; last: Partial<Ports> },
  start: (port: number) => Promise<Server>,
): Promise<{ server: Server; port: number }> {
  // The other server's last port is not taken from it, even while it is not up yet.
  const other = server === 'plain' ? wanted.last.timescaledb : wanted.last.plain;
  const next = Array.from({ length: attempts }, (_, step) => defaults[server] + step);
  const last = wanted.last[server];
  const candidates = wanted.asked
    ? [wanted.asked]
    : [...(last === undefined ? [] : [last]), ...next].filter((port) => port !== other);
  for (const port of candidates) {
    if (!(await isFree(port))) continue;
    try {
      return { server: await start(port), port };
    } catch (error) {
      if (!(error instanceof PortTaken)) throw error;
    }
  }
  throw new EmbeddedClusterError(
    'port_taken',
    wanted.asked
      ? `Port ${wanted.asked} for the ${server} server is taken.`
      : `No free port in ${defaults[server]}..${defaults[server] + attempts - 1} for the ${server} server.`,
    { folder, mend: 'stop what listens there, or choose another one in `ports`' },
  );
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536;
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  try {
    probe.listen(port, '127.0.0.1');
    await once(probe, 'listening');
    const closed = once(probe, 'close');
    probe.close();
    await closed;
    return true;
  } catch {
    return false;
  }
}
