// Finds the columns with user ids of atriz_core, and the erasure rules, in the schema files.
import { is } from 'drizzle-orm';
import { getTableConfig, getViewConfig, PgColumn, PgTable, PgView } from 'drizzle-orm/pg-core';
import { isCoreUserId } from '../../schema/columns.ts';
import type { ErasureRule } from '../../schema/erasure.ts';
import { type DatabaseTarget, definitionOf, keyOf } from '../databases.ts';
import { ConfigurationError } from '../errors.ts';

export type Relation = PgTable | PgView;

/** A column of a table or view that contains user ids of atriz_core. */
interface ReferenceColumn {
  readonly relation: Relation;
  readonly column: PgColumn;
}

/** The columns of a database that `coreUserId()` created. atriz_core has none: it uses foreign keys. */
export const referenceColumns = (key: DatabaseTarget): ReferenceColumn[] =>
  referencesIn(definitionOf(key).schema);

/**
 * The erasure rules of a database, in the order in which `eraseUser` applies them.
 * @throws ConfigurationError if a table, a view or a column of `coreUserId()` has no rule, so that no data is
 * left out of an erasure by mistake.
 */
export function erasureRules(
  key: DatabaseTarget,
  schema: Readonly<Record<string, unknown>> = definitionOf(key).schema,
): readonly ErasureRule[] {
  const { erasure: rules = [] } = schema as { erasure?: readonly ErasureRule[] };
  const ruled = new Set(rules.flatMap((rule) => [nameOf(rule.relation), ownColumn(rule)]));
  const columns = referencesIn(schema).map(({ relation, column }) => `${nameOf(relation)}.${column.name}`);
  const forgotten = [...relationsIn(schema).map(nameOf), ...columns].filter((name) => !ruled.has(name));
  if (forgotten.length === 0) return rules;
  throw new ConfigurationError(
    `schema/${keyOf(key)}.ts does not say what becomes of ${forgotten.join(', ')} when a person is erased: add it to "erasure".`,
  );
}

export const nameOf = (relation: Relation): string =>
  is(relation, PgTable) ? getTableConfig(relation).name : getViewConfig(relation).name;

const ownColumn = (rule: ErasureRule): string | undefined =>
  rule.action === 'keep' || rule.through ? undefined : `${nameOf(rule.relation)}.${rule.column.name}`;

const relationsIn = (schema: Readonly<Record<string, unknown>>): Relation[] =>
  Object.values(schema).filter((value) => is(value, PgTable) || is(value, PgView));

const referencesIn = (schema: Readonly<Record<string, unknown>>): ReferenceColumn[] =>
  relationsIn(schema).flatMap((relation) =>
    columnsOf(relation)
      .filter(isCoreUserId)
      .map((column) => ({ relation, column })),
  );

const columnsOf = (relation: Relation): PgColumn[] =>
  is(relation, PgTable)
    ? getTableConfig(relation).columns
    : Object.values(getViewConfig(relation).selectedFields).filter((field) => is(field, PgColumn));
