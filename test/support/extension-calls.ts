// Calls of every function of TimescaleDB, made from the catalog, with arguments that reach other applications' points.
import type { Pool } from '../../src/index.ts';

export interface ExtensionCall {
  /** `_timescaledb_functions.drop_chunk(regclass)`. */
  readonly name: string;
  readonly sql: string;
}

export interface Outcome extends ExtensionCall {
  /** SQLSTATE and message of a failure, else what the call returned. */
  readonly state?: string;
  readonly answer: string;
}

interface Routine {
  readonly name: string;
  readonly call: string;
  readonly kind: string;
  readonly isVariadic: boolean;
  readonly parameters: readonly { readonly name: string | null; readonly type: string }[];
}

// Trigger functions and those that take or return an internal value cannot be called in SQL.
const routines = `
  SELECT p.oid::regprocedure::text AS name, format('%I.%I', n.nspname, p.proname) AS call, p.prokind::text AS kind, p.provariadic <> 0 AS "isVariadic",
    ARRAY(SELECT json_build_object('name', p.proargnames[a.position], 'type', format_type(a.type, NULL))
      FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, position) ORDER BY a.position) AS parameters
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND x.oid = d.refobjid AND x.extname = 'timescaledb'
  WHERE NOT 'internal'::regtype = ANY (p.proargtypes::oid[])
    AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype) ORDER BY 1`;

const targets = `
  SELECT format('%I.%I', c.chunk_schema, c.chunk_name) AS chunk,
    format('%I.%I', a.materialization_hypertable_schema, a.materialization_hypertable_name) AS hours,
    (SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'location_events' ORDER BY 1 LIMIT 1) AS job
  FROM timescaledb_information.chunks c, timescaledb_information.continuous_aggregates a
  WHERE c.hypertable_name = 'location_events' AND a.view_name = 'location_hourly' ORDER BY c.range_end DESC LIMIT 1`;

/** The newest chunk, the hypertable, the aggregate and its hypertable, the jobs: each is an argument once. */
export async function extensionCalls(superuser: Pool): Promise<ExtensionCall[]> {
  const { rows } = await superuser.query<Routine>(routines);
  const [target] = (await superuser.query<{ chunk: string; hours: string; job: number }>(targets)).rows;
  if (!target) throw new Error('There are no points.');
  const relations = [target.chunk, 'public.location_events', 'public.location_hourly', target.hours];
  return rows.flatMap(({ name, call, kind, isVariadic, parameters }) => {
    const calls = relations.map((relation) => {
      const values = parameters.map((one) => argument(kind, one, relation, target.job));
      if (isVariadic) values.push(`VARIADIC ${values.pop()}`);
      // This one is for aggregates alone, says the planner.
      const invocation = call.endsWith('.partialize_agg')
        ? `${call}(max(now()))`
        : `${call}(${values.join(', ')})`;
      return kind === 'p' ? `CALL ${invocation}` : `SELECT ${invocation}`;
    });
    return [...new Set(calls)].map((sql) => ({ name, sql }));
  });
}

function argument(
  kind: string,
  { name, type }: Routine['parameters'][number],
  relation: string,
  job: number,
): string {
  const literal = (text: string) => `'${text}'::${type}`;
  switch (type) {
    case 'regclass':
      return literal(relation);
    case 'regclass[]':
      return literal(`{${relation}}`);
    case 'regproc':
      return literal('_timescaledb_functions.policy_job_stat_history_retention');
    case 'name':
    case 'text':
      return literal(/schema/.test(name ?? '') ? 'public' : (relation.split('.')[1] ?? ''));
    case 'integer':
    case 'bigint':
    case 'smallint':
    case 'double precision':
      return literal(/job/.test(name ?? '') ? String(job) : '1');
    case 'interval':
      return literal('1 hour');
    case '"any"':
    case 'anyelement':
      return 'now()';
    case 'anyarray':
      return 'ARRAY[1]';
    case 'date':
    case 'timestamp without time zone':
    case 'timestamp with time zone':
      return literal('2100-01-01');
    case 'anyrange':
      return "'empty'::tstzrange";
    case 'boolean':
      return literal('true');
    case 'jsonb':
      return literal('{"drop_after": "1 hour"}');
    default:
      // A constant NULL would be the answer of a strict function, without a call and without a look at rights.
      return kind === 'p' ? `NULL::${type}` : `(SELECT NULL::${type})`;
  }
}

/** Makes all calls as the role of the pool's one session, each for itself: a failure undoes only its own call. */
export async function tryCalls(pool: Pool, calls: readonly ExtensionCall[]): Promise<Outcome[]> {
  const list = calls.map(({ sql }) => `$call$${sql}$call$`).join(', ');
  await pool.query(`
    DO $tries$ DECLARE
      call text; answer text; outcomes jsonb := '[]';
    BEGIN
      FOREACH call IN ARRAY ARRAY[${list}] LOOP
        BEGIN
          answer := NULL;
          IF call LIKE 'CALL %' THEN EXECUTE call;
          ELSE EXECUTE format('SELECT string_agg(answer::text, '','') FROM (%s) AS answer', call) INTO answer; END IF;
          outcomes := outcomes || jsonb_build_object('answer', coalesce(answer, ''));
        EXCEPTION WHEN OTHERS THEN
          outcomes := outcomes || jsonb_build_object('state', SQLSTATE, 'answer', SQLERRM);
        END;
      END LOOP;
      PERFORM set_config('test.outcomes', outcomes::text, false);
    END $tries$`);
  const { rows } = await pool.query<{ outcomes: Pick<Outcome, 'state' | 'answer'>[] }>(
    "SELECT current_setting('test.outcomes')::jsonb AS outcomes",
  );
  return calls.map((call, index) => ({ ...call, answer: '', ...rows[0]?.outcomes[index] }));
}
