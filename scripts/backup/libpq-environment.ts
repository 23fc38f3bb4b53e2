// From a parsed URL to the environment of pg_dump and pg_restore. Nothing secret stands in their arguments.
import type { Environment } from '../../src/config.ts';
import type { DatabaseUrl } from '../../src/database-url.ts';

/** Parameters of a URL that libpq reads from the environment as well. Others are the server's: pg_dump sets its own. */
const variables = {
  application_name: 'PGAPPNAME',
  channel_binding: 'PGCHANNELBINDING',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  gssdelegation: 'PGGSSDELEGATION',
  gssencmode: 'PGGSSENCMODE',
  gsslib: 'PGGSSLIB',
  krbsrvname: 'PGKRBSRVNAME',
  load_balance_hosts: 'PGLOADBALANCEHOSTS',
  options: 'PGOPTIONS',
  passfile: 'PGPASSFILE',
  require_auth: 'PGREQUIREAUTH',
  requirepeer: 'PGREQUIREPEER',
  ssl_max_protocol_version: 'PGSSLMAXPROTOCOLVERSION',
  ssl_min_protocol_version: 'PGSSLMINPROTOCOLVERSION',
  sslcert: 'PGSSLCERT',
  sslcrl: 'PGSSLCRL',
  sslkey: 'PGSSLKEY',
  sslnegotiation: 'PGSSLNEGOTIATION',
  sslrootcert: 'PGSSLROOTCERT',
  sslsni: 'PGSSLSNI',
} as const;

/**
 * `undefined` takes a variable away: the URL alone says where, and what the operator's shell has set
 * for another server must not lead pg_dump there. User, password and certificates that the URL leaves
 * out come from the environment, as for our own connections.
 */
export function libpqEnvironment(url: DatabaseUrl): Environment {
  const named = Object.entries(variables).flatMap(([parameter, variable]) => {
    const value = url.parameters.get(parameter);
    return value === undefined ? [] : [[variable, value]];
  });
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
    PGSSLMODE: url.sslMode,
    ...(url.user !== undefined && { PGUSER: url.user }),
    ...(url.password !== undefined && { PGPASSWORD: url.password }),
    ...Object.fromEntries(named),
  };
}
