// From a parsed URL to the environment of pg_dump and pg_restore. Their arguments hold no secret.
import { type Environment, withLibpqVariables } from '../../../src/config.ts';
import type { DatabaseUrl } from '../../../src/driver/database-url.ts';
import { libpqVariables } from '../../../src/driver/url-parameters.ts';

/** Parameters of a URL that libpq reads from the environment as well. Others are the server's: pg_dump sets its own. */
const variables = { ...libpqVariables, application_name: 'PGAPPNAME', options: 'PGOPTIONS' } as const;

/**
 * `undefined` takes a variable away: the URL alone says where, and what the operator's shell has set
 * for another server must not lead pg_dump there. User, password and what is asked of TLS come from the
 * environment where the URL leaves them out, as for our own connections.
 */
export function libpqEnvironment(url: DatabaseUrl): Environment {
  const named = Object.entries(variables).flatMap(([parameter, variable]) => {
    const value = url.parameters.get(parameter);
    return value === undefined ? [] : [[variable, value]];
  });
  const { sslMode } = withLibpqVariables(url);
  return {
    PGHOSTADDR: undefined,
    PGSERVICE: undefined,
    PGOPTIONS: undefined,
    PGTARGETSESSIONATTRS: url.target === 'any' ? undefined : url.target,
    PGCLIENTENCODING: undefined,
    PGAPPNAME: undefined,
    PGHOST: url.hosts.map(({ host }) => host).join(','),
    PGPORT: url.hosts.map(({ port }) => port).join(','),
    PGDATABASE: url.database,
    ...(sslMode !== undefined && { PGSSLMODE: sslMode }),
    ...(url.user !== undefined && { PGUSER: url.user }),
    ...(url.password !== undefined && { PGPASSWORD: url.password }),
    ...Object.fromEntries(named),
  };
}
