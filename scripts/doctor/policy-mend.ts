// The SQL that makes a policy of TimescaleDB what is declared.
import { trackingPolicies } from '../../schema/tracking.ts';
import { deletePolicy } from '../../src/timescale/catalog.ts';
import type { PolicyDifference } from '../../src/tracking/policies.ts';

const { refresh, lateRefresh } = trackingPolicies.location_hourly;

/** Policies have no ALTER of their own that all versions know: one is removed and added, both refresh policies together. */
export function mendPolicy({ relation, setting, declared }: PolicyDifference): string {
  const again = (policy: string, options: string) =>
    `SELECT remove_${policy}_policy('${relation}', if_exists => true); SELECT add_${policy}_policy('${relation}', ${options})`;
  if (declared === null) {
    return deletePolicy(relation, jobOf(setting));
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
      return [
        `SELECT remove_continuous_aggregate_policy('${relation}', if_exists => true)`,
        ...[refresh, lateRefresh].map(
          ({ startOffset, endOffset, every }) =>
            `SELECT add_continuous_aggregate_policy('${relation}', start_offset => INTERVAL '${startOffset}', ` +
            `end_offset => INTERVAL '${endOffset}', schedule_interval => INTERVAL '${every}')`,
        ),
      ].join('; ');
  }
}

const jobs: Readonly<Record<string, string>> = {
  retention: 'policy_retention',
  'compression.after': 'policy_compression',
};
const jobOf = (setting: string) => jobs[setting] ?? setting;
