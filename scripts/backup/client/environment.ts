// Converts a parsed URL to the environment of pg_dump and pg_restore, so that their arguments hold no secret.
import { type Environment, withLibpqVariables } from '../../../src/config.ts';
import type { DatabaseUrl } from '../../../src/driver/database-url.ts';
import { libpqVariables } from '../../../src/driver/url-parameters.ts';

/** URL parameters that libpq also reads from the environment. Server settings are omitted: pg_dump sets its own. */
const variables = { ...libpqVariables, application_name: 'PGAPPNAME', options: 'PGOPTIONS' } as const;

/**
 * `undefined` removes a variable: settings of the operator's shell for another server must not affect pg_dump.
 * If the URL omits user, password or TLS settings, they come from the environment, as for our own connections.
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
