// The SQL that makes a policy of TimescaleDB what is declared.
import { trackingPolicies } from '../../schema/tracking.ts';
import type { PolicyDifference } from '../../src/tracking/policies.ts';

const { refresh } = trackingPolicies.location_hourly;

/** Policies have no ALTER of their own that all versions know: one is removed and added. */
export function mendPolicy({ relation, setting, declared }: PolicyDifference): string {
  const again = (policy: string, options: string) =>
    `SELECT remove_${policy}_policy('${relation}', if_exists => true); SELECT add_${policy}_policy('${relation}', ${options})`;
  if (declared === null) {
    return `SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = '${jobOf(setting)}' AND hypertable_name = ${hypertableOf(relation)}`;
  }
  switch (setting) {
    case 'chunkInterval':
      return `SELECT set_chunk_time_interval('${relation}', INTERVAL '${declared}')`;
    case 'compression.after':
      return again('compression', `INTERVAL '${declared}'`);
    case 'compression.segmentBy':
      return `ALTER TABLE ${relation} SET (timescaledb.compress_segmentby = '${declared}')`;
    case 'compression.orderBy':
      return `ALTER TABLE ${relation} SET (timescaledb.compress_orderby = '${declared}')`;
    case 'retention':
      return again('retention', `INTERVAL '${declared}'`);
    case 'materializedOnly':
      return `ALTER MATERIALIZED VIEW ${relation} SET (timescaledb.materialized_only = ${declared})`;
    default:
      return again(
        'continuous_aggregate',
        `start_offset => INTERVAL '${refresh.startOffset}', end_offset => INTERVAL '${refresh.endOffset}', ` +
          `schedule_interval => INTERVAL '${refresh.every}'`,
      );
  }
}

const jobs: Readonly<Record<string, string>> = {
  retention: 'policy_retention',
  'compression.after': 'policy_compression',
};
const jobOf = (setting: string) => jobs[setting] ?? setting;
const hypertableOf = (relation: string) =>
  `coalesce((SELECT materialization_hypertable_name FROM timescaledb_information.continuous_aggregates WHERE view_name = '${relation}'), '${relation}')`;
