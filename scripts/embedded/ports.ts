// Chooses the loopback port of a server: the requested one, the last used one, or the next free one.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import * as v from 'valibot';
import { EmbeddedClusterError } from './errors.ts';
import { readJson, writeJson } from './files.ts';

const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
const portsFile = v.object({ plain: port, timescaledb: port });

export type Ports = v.InferOutput<typeof portsFile>;

/** Thrown by a start function if another program took the port after it was found to be free. */
export class PortTaken extends Error {}

const defaults: Ports = { plain: 54317, timescaledb: 54318 };
const attempts = 200;

/** The ports of the last start. They are used again, because people copy the URLs into env files. */
export async function lastPorts(folder: string): Promise<Partial<Ports>> {
  return (await readJson(join(folder, 'ports.json'), portsFile)) ?? {};
}

export async function rememberPorts(folder: string, ports: Ports): Promise<void> {
  await writeJson(join(folder, 'ports.json'), ports);
}

/** Starts a server on the first candidate port that is free. @throws EmbeddedClusterError `port_taken` */
export async function startOnPort<Server>(
  server: keyof Ports,
  folder: string,
  wanted: { asked: number | undefined; last: Partial<Ports> },
  start: (port: number) => Promise<Server>,
): Promise<{ server: Server; port: number }> {
  // The other server's last used port is reserved for that server, even if it has not started yet.
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
    { folder, mend: 'stop the program that listens there, or choose another port in `ports`' },
  );
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
