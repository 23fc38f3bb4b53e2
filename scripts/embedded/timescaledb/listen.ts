// LISTEN on a shared backend: which session listens to what.
import type { Peer } from './peer.ts';

/** Enters the LISTEN and UNLISTEN commands of a text; true when there was one. */
export function parseListen(sql: string, channels: Set<string>): boolean {
  let found = false;
  for (const match of sql.matchAll(/(?:^|;)\s*(un)?listen\s+(\*|"(?:[^"]|"")+"|[\w$]+)/gi)) {
    found = true;
    const [, un, name = ''] = match;
    const channel = name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase();
    if (un === undefined) channels.add(channel);
    else if (name === '*') channels.clear();
    else channels.delete(channel);
  }
  return found;
}

export function listenedChannels(sessions: Iterable<Peer>): string[] {
  return [...new Set([...sessions].flatMap((session) => [...session.turn.channels]))];
}
