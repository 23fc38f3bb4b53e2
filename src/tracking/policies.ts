// Compares the policies of a live database with their declaration beside the schema.
import { trackingPolicies } from '../../schema/tracking.ts';
import { TimescaleMissingError } from '../errors.ts';
import type { Pool } from '../pool.ts';
import { withCatalogPath } from '../sql/catalog-path.ts';
import { policyJobs, readTimescale, relationSettings } from '../timescale/catalog.ts';
import type { Transaction } from '../transaction.ts';

/** One setting that is not as it was declared. */
export interface PolicyDifference {
  /** `location_events` or `location_hourly`. */
  relation: string;
  /** Path in `trackingPolicies`, such as `refresh.endOffset`, or the procedure of a job that nothing declares. */
  setting: string;
  declared: string | null;
  found: string | null;
}

interface Declared {
  relation: string;
  setting: string;
  value: string;
  isInterval: boolean;
}

/**
 * What differs between `trackingPolicies` and the catalog of TimescaleDB, in both directions: nothing
 * when the migrations were applied and nobody changed a policy by hand.
 * @throws TimescaleMissingError where TimescaleDB is not enabled.
 */
export function comparePolicies(db: Pool): Promise<PolicyDifference[]> {
  const declared = declaredSettings();
  const column = <Key extends keyof Declared>(key: Key) => declared.map((setting) => setting[key]);
  const compare = async (transaction: Transaction) => {
    // Without the extension, views of these names could be anybody's.
    if (!(await readTimescale(transaction))) {
      throw new TimescaleMissingError(`TimescaleDB is not enabled in ${db.name}: run "npm run db:migrate".`);
    }
    const { rows } = await transaction.query<PolicyDifference>(differences, [
      column('relation'),
      column('setting'),
      column('value'),
      column('isInterval'),
      trackingPolicies.location_hourly.lateRefresh.endOffset,
    ]);
    return rows;
  };
  return withCatalogPath(db, compare, { readOnly: true });
}

function declaredSettings(): Declared[] {
  const { location_events: events, location_hourly: hourly } = trackingPolicies;
  const interval = (relation: string, setting: string, value: string) => ({
    relation,
    setting,
    value,
    isInterval: true,
  });
  const text = (relation: string, setting: string, value: string) => ({
    ...interval(relation, setting, value),
    isInterval: false,
  });
  return [
    interval('location_events', 'chunkInterval', events.chunkInterval),
    interval('location_events', 'compression.after', events.compression.after),
    text('location_events', 'compression.segmentBy', events.compression.segmentBy.join(',')),
    text('location_events', 'compression.orderBy', events.compression.orderBy.join(',')),
    interval('location_events', 'retention', events.retention),
    ...(['refresh', 'lateRefresh'] as const).flatMap((window) => [
      interval('location_hourly', `${window}.startOffset`, hourly[window].startOffset),
      interval('location_hourly', `${window}.endOffset`, hourly[window].endOffset),
      interval('location_hourly', `${window}.every`, hourly[window].every),
    ]),
    interval('location_hourly', 'retention', hourly.retention),
    text('location_hourly', 'materializedOnly', String(hourly.materializedOnly)),
  ];
}

// $1 relations, $2 settings, $3 values, $4 whether a value is an interval: '30 days' equals '1 mon'.
// $5 where the window of late points ends. Of the two refresh policies it tells which is which, also when
// somebody changed one: the window that ends nearer to it is that of late points.
const differences = `
  WITH declared AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[]) AS d (relation, setting, value, is_interval)
  ), jobs AS (
    SELECT relation, proc_name, schedule_interval, config,
      CASE WHEN (config->>'end_offset')::interval > $5::interval / 2 THEN 'lateRefresh' ELSE 'refresh' END AS refresh
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
  WHERE CASE WHEN d.is_interval THEN d.value::interval IS DISTINCT FROM f.value::interval
    ELSE d.value IS DISTINCT FROM f.value END
  ORDER BY 1, 2`;
