// Checks row-level access: row policies and the filters of the applications' views, as the migrations create them.
import { locationSources } from '../../schema/tracking.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import type { Change, LiveAccess, LivePolicy } from './live-access.ts';
import type { DatabaseAccess } from './matrix.ts';

export const policiesQuery = `
  SELECT format('%I.%I', n.nspname, c.relname) AS table, p.polname::text AS name, concat_ws(' ', p.polcmd, p.polpermissive,
    p.polroles::text, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS definition
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^_timescaledb_' ORDER BY 1, 2`;

export const viewsQuery = `
  SELECT n.nspname || '.' || c.relname AS name, pg_get_viewdef(c.oid) AS definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'v' AND n.nspname = ANY ($1::text[]) ORDER BY 1`;

// The policies that schema/ declares. `definition` is the policy as `policiesQuery` returns it.
const policies = [
  {
    table: 'location_writers',
    name: 'own_rows',
    definition: '* t {0} ((role_name)::text = CURRENT_USER) ((role_name)::text = CURRENT_USER)',
    clauses: 'USING (role_name = CURRENT_USER) WITH CHECK (role_name = CURRENT_USER)',
  },
];

export function compareRowPolicies({ rowSecurity }: DatabaseAccess, live: LiveAccess): Change[] {
  const has = (table: string) =>
    live.relations.some(({ schema, name }) => schema === 'public' && name === table);
  const wanted = policies.filter(({ table }) => rowSecurity.has(table) && has(table));
  const same = (found: LivePolicy, { table, name }: (typeof policies)[number]) =>
    found.table === `public.${table}` && found.name === name;
  const extra = live.policies
    .filter((found) => !wanted.some((policy) => same(found, policy)))
    .map(({ table, name }) => ({
      what: `${table} has the policy ${name}`,
      mend: `DROP POLICY ${quoteIdentifier(name)} ON ${table}`,
    }));
  const different = wanted
    .filter((policy) => live.policies.find((found) => same(found, policy))?.definition !== policy.definition)
    .map(({ table, name, clauses }) => ({
      what: `the policy ${name} of public.${table} is not ${clauses}`,
      mend: `DROP POLICY IF EXISTS ${name} ON public.${table}; CREATE POLICY ${name} ON public.${table} ${clauses}`,
    }));
  return [...extra, ...different];
}

/** Each view must select plain columns of one application's points or hours: nothing computed, joined or added. */
export function compareFilters(live: LiveAccess): Change[] {
  return live.views.flatMap(({ name, definition }) => {
    const [source = '', relation = ''] = name.split('.');
    const view = live.relations.find((found) => found.schema === source && found.name === relation);
    const points = relation === 'location_events';
    if (!view || !locationSources.some((known) => known === source)) return [];
    if (!points && relation !== 'location_hourly') return [];
    const order = points ? ' ORDER BY device_id, "time" DESC' : '';
    // Before PostgreSQL 16, pg_get_viewdef prefixes each column with its table.
    const [columns = '', rest] = definition
      .replace(/\s+/g, ' ')
      .trim()
      .replaceAll(new RegExp(`(?<![.\\w])${relation}\\.`, 'g'), '')
      .split(/ (?=FROM )/);
    const filter = `FROM public.${relation} WHERE ((app_source)::text = '${source}'::text)${order};`;
    if (/^SELECT [\w", ]+$/.test(columns) && rest === filter) return [];
    const options = points ? 'security_barrier = true, check_option = cascaded' : 'security_barrier = true';
    return [
      {
        what: `${name} does not show the rows of ${source} alone`,
        mend:
          `CREATE OR REPLACE VIEW ${name} WITH (${options}) AS SELECT ${view.columns.map(quoteIdentifier).join(', ')} ` +
          `FROM public.${relation} WHERE app_source = '${source}'${order}`,
      },
    ];
  });
}
