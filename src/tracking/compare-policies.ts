// Compares the policies of a live database with their declaration in schema/tracking.ts.
import { trackingPolicies } from '../../schema/tracking.ts';
import { TimescaleMissingError } from '../errors.ts';
import type { Pool } from '../pool.ts';
import { withCatalogPath } from '../sql/catalog-path.ts';
import { policyJobs, readTimescale, relationSettings } from '../timescale/catalog.ts';
import type { Transaction } from '../transaction.ts';

/** One setting whose value differs from its declaration. */
export interface PolicyDifference {
  /** `location_events` or `location_hourly`. */
  relation: string;
  /** Path in `trackingPolicies`, such as `refresh.endOffset`, or the procedure of a job that is not declared. */
  setting: string;
  declared: string | null;
  found: string | null;
}

/**
 * Returns what differs between `trackingPolicies` and the catalog of TimescaleDB, in both directions. The
 * result is empty if the migrations were applied and no policy was changed by hand.
 * @throws TimescaleMissingError if TimescaleDB is not enabled.
 */
export function comparePolicies(db: Pool): Promise<PolicyDifference[]> {
  const compare = async (transaction: Transaction) => {
    // Without the extension, the views of its catalog could be another role's views with the same names.
    if (!(await readTimescale(transaction))) {
      throw new TimescaleMissingError(`TimescaleDB is not enabled in ${db.name}: run "npm run db:migrate".`);
    }
    const { rows } = await transaction.query<PolicyDifference>(differences, [
      JSON.stringify(
        Object.entries(trackingPolicies).flatMap(([name, settings]) => declaredIn(name, settings)),
      ),
      trackingPolicies.location_hourly.lateRefresh.endOffset,
    ]);
    return rows;
  };
  return withCatalogPath(db, compare, { readOnly: true });
}

interface Declared {
  relation: string;
  setting: string;
  value: string;
  /** Whether PostgreSQL compares `value` as an interval, so that '30 days' equals '1 mon'. */
  isInterval: boolean;
}

/** Lists the settings of a relation. The name of a nested setting is its path. */
function declaredIn(relation: string, settings: object, path = ''): Declared[] {
  return Object.entries(settings).flatMap(([name, given]) => {
    const setting = path + name;
    if (typeof given === 'object' && !Array.isArray(given)) return declaredIn(relation, given, `${setting}.`);
    const value = String(given);
    return [{ relation, setting, value, isInterval: /^\d+ [a-z]+$/.test(value) }];
  });
}

// $1 declared settings, $2 the end offset of `lateRefresh`. A refresh policy with an end offset above half of $2 counts
// as `lateRefresh`, so that the two refresh policies are told apart even if an end offset was changed.
const differences = `
  WITH declared AS (
    SELECT * FROM jsonb_to_recordset($1::text::jsonb) AS d (relation text, setting text, value text, "isInterval" boolean)
  ), jobs AS (
    SELECT relation, proc_name, schedule_interval, config,
      CASE WHEN (config->>'end_offset')::interval > $2::interval / 2 THEN 'lateRefresh' ELSE 'refresh' END AS refresh
    FROM ${policyJobs} AS j
  ), found AS (
    SELECT relation, setting, value FROM ${relationSettings} AS s
    WHERE schema = 'public' AND relation IN ('location_events', 'location_hourly')
    UNION ALL
    SELECT jobs.relation, v.setting, v.value FROM jobs, LATERAL (VALUES
      ('policy_compression', 'compression.after', config->>'compress_after'),
      ('policy_retention', 'retention', config->>'drop_after'),
      ('policy_refresh_continuous_aggregate', refresh || '.startOffset', config->>'start_offset'),
      ('policy_refresh_continuous_aggregate', refresh || '.endOffset', config->>'end_offset'),
      ('policy_refresh_continuous_aggregate', refresh || '.every', schedule_interval::text)
    ) AS v (proc_name, setting, value) WHERE v.proc_name = jobs.proc_name
    UNION ALL
    SELECT relation, proc_name, config::text FROM jobs
    WHERE proc_name NOT IN ('policy_compression', 'policy_retention', 'policy_refresh_continuous_aggregate')
  )
  SELECT coalesce(d.relation, f.relation) AS relation, coalesce(d.setting, f.setting) AS setting,
    d.value AS declared, f.value AS found
  FROM declared d FULL JOIN found f ON f.relation = d.relation AND f.setting = d.setting
  WHERE CASE WHEN d."isInterval" THEN d.value::interval IS DISTINCT FROM f.value::interval
    ELSE d.value IS DISTINCT FROM f.value END
  ORDER BY 1, 2`;
