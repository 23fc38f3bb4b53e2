// The URLs of the five databases of a running embedded cluster, as objects and as lines of an env file.
import { type DatabaseKey, databaseKeys, definitionOf } from '../../src/databases.ts';
import type { EmbeddedCluster } from './cluster.ts';

export interface ClusterUrl {
  key: DatabaseKey;
  url: string;
}

export function clusterUrls({ servers }: Pick<EmbeddedCluster, 'servers'>): ClusterUrl[] {
  return databaseKeys.map((key) => {
    const { database, extensions } = definitionOf(key);
    return {
      key,
      url: `${extensions.includes('timescaledb') ? servers.timescaledb : servers.plain}/${database}`,
    };
  });
}

export const environmentLines = (urls: readonly ClusterUrl[]): string[] =>
  urls.map(({ key, url }) => `${definitionOf(key).urlVariable}=${url}`);
