// Properties of a database that are not in its dump: owner, locale, settings, grants, comment.

import type { Database, Pool } from '../../src/pool.ts';
import { quoteIdentifier, quoteRelation } from '../../src/sql/identifiers.ts';
import { withTransaction } from '../../src/transaction.ts';
import type { DatabaseProperties } from './library/manifest.ts';

export async function readProperties(db: Database): Promise<DatabaseProperties> {
  // The locale column is daticulocale before PostgreSQL 17 and datlocale later: to_jsonb allows asking for both.
  const { rows } = await db.query<{ properties: DatabaseProperties }>(
    `SELECT jsonb_build_object(
       'owner', pg_get_userbyid(d.datdba),
       'encoding', pg_encoding_to_char(d.encoding),
       'localeProvider', CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
       'collate', d.datcollate, 'ctype', d.datctype,
       'locale', coalesce(to_jsonb(d)->'datlocale', to_jsonb(d)->'daticulocale', 'null'),
       'icuRules', coalesce(to_jsonb(d)->'daticurules', 'null'),
       'connectionLimit', d.datconnlimit,
       'comment', shobj_description(d.oid, 'pg_database'),
       'settings', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname,
            'name', split_part(setting, '=', 1), 'value', substr(setting, strpos(setting, '=') + 1)) ORDER BY r.rolname NULLS FIRST, setting), '[]')
          FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS setting LEFT JOIN pg_roles r ON r.oid = s.setrole
          WHERE s.setdatabase = d.oid AND split_part(setting, '=', 1) NOT IN ('timescaledb.restoring', 'atriz.unfinished_restore')),
       'grants', CASE WHEN d.datacl IS NOT NULL THEN (
          SELECT coalesce(jsonb_agg(jsonb_build_object('grantee', coalesce(r.rolname, ''), 'privilege', a.privilege_type,
            'grantable', a.is_grantable) ORDER BY r.rolname NULLS FIRST, a.privilege_type), '[]')
          FROM aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee) END
     ) AS properties
     FROM pg_database d WHERE d.datname = current_database()`,
  );
  return (rows[0] as { properties: DatabaseProperties }).properties;
}

/** Returns CREATE DATABASE without connections. Uses template0: objects of template1 could collide with the dump. */
export function createStatement(name: string, properties: DatabaseProperties): string {
  const { encoding, localeProvider, collate, ctype, locale, icuRules } = properties;
  return [
    `CREATE DATABASE ${quoteIdentifier(name)} TEMPLATE template0 ALLOW_CONNECTIONS false ENCODING ${quoteLiteral(encoding)}`,
    `LOCALE_PROVIDER ${localeProvider} LC_COLLATE ${quoteLiteral(collate)} LC_CTYPE ${quoteLiteral(ctype)}`,
    locale && localeProvider !== 'libc' && `${localeProvider.toUpperCase()}_LOCALE ${quoteLiteral(locale)}`,
    icuRules && `ICU_RULES ${quoteLiteral(icuRules)}`,
  ]
    .filter(Boolean)
    .join(' ');
}

/** Applies `properties` to the database of `pool`: the owner, grants and role settings only if `withRoles` is true. */
export async function applyProperties(
  pool: Pool,
  properties: DatabaseProperties,
  { withRoles }: { withRoles: boolean },
): Promise<void> {
  const name = quoteIdentifier(pool.name);
  for (const setting of properties.settings) {
    if (setting.role === null || withRoles) await applySetting(pool, name, setting);
  }
  const comment = properties.comment === null ? 'NULL' : quoteLiteral(properties.comment);
  await pool.query(`COMMENT ON DATABASE ${name} IS ${comment}`);
  await pool.query(`ALTER DATABASE ${name} CONNECTION LIMIT ${Number(properties.connectionLimit)}`);
  if (!withRoles) return;
  if (properties.grants) {
    await pool.query(`REVOKE ALL ON DATABASE ${name} FROM PUBLIC`);
    for (const { grantee, privilege, grantable } of properties.grants) {
      const whom = grantee === '' ? 'PUBLIC' : quoteIdentifier(grantee);
      await pool.query(
        `GRANT ${privilege} ON DATABASE ${name} TO ${whom}${grantable ? ' WITH GRANT OPTION' : ''}`,
      );
    }
  }
  await pool.query(`ALTER DATABASE ${name} OWNER TO ${quoteIdentifier(properties.owner)}`);
}

/** Settings that are lists of quoted names. SET with one literal would turn the list into a single name. */
const lists = [
  'search_path',
  'temp_tablespaces',
  'local_preload_libraries',
  'session_preload_libraries',
  'createrole_self_grant',
];

async function applySetting(
  pool: Pool,
  database: string,
  { role, name, value }: DatabaseProperties['settings'][number],
): Promise<void> {
  const target =
    role === null
      ? `ALTER DATABASE ${database}`
      : `ALTER ROLE ${quoteIdentifier(role)} IN DATABASE ${database}`;
  if (!lists.includes(name.toLowerCase())) {
    await pool.query(`${target} SET ${quoteRelation(name)} TO ${quoteLiteral(value)}`);
    return;
  }
  await withTransaction(pool, async (transaction) => {
    await transaction.query('SELECT set_config($1, $2, true)', [name, value]);
    await transaction.query(`${target} SET ${quoteRelation(name)} FROM CURRENT`);
  });
}

export const quoteLiteral = (text: string): string => {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes('\\') ? `E${quoted.replaceAll('\\', '\\\\')}` : quoted;
};
