// Types and functions with which each schema file declares what the erasure of a person does to their rows.
import type { SQL } from 'drizzle-orm';
import type { PgColumn, PgTable, PgView } from 'drizzle-orm/pg-core';

/** Replaces the user id of an erased person. No user has this id, because user ids are random UUIDs. */
export const erasedUserId = '00000000-0000-0000-0000-000000000000';

/** Marks a column that anonymisation does not change. */
export const keep = Symbol('keep');

/**
 * Determines which person a row belongs to. Without `through`, `column` contains the user id. With `through`, `column`
 * refers to a row of another table by the value of `key` or, if given, of the expression `as`. In that row, `person`
 * contains the user id.
 */
export interface Person {
  readonly column: PgColumn;
  readonly through?: { readonly key: PgColumn; readonly as?: SQL; readonly person: PgColumn };
}

/** A table or view has one rule for each column that links its rows to a person, or else one `keep` rule. */
export type ErasureRule =
  | ({ readonly action: 'delete'; readonly relation: PgTable | PgView } & Person)
  | ({
      readonly action: 'anonymise';
      readonly relation: PgTable;
      readonly because: string;
      /** For each column, the new value or `keep`. The keys are the property names in the schema. */
      readonly columns: Readonly<Record<string, unknown>>;
    } & Person)
  | { readonly action: 'keep'; readonly relation: PgTable | PgView; readonly because: string };

/** Deletes the person's rows. Rules for rows that depend on these must come before this rule. */
export const deleteRows = (
  relation: PgTable | PgView,
  column: PgColumn,
  options: Pick<Person, 'through'> = {},
): ErasureRule => ({ action: 'delete', relation, column, ...options });

/** Keeps the person's rows but replaces values. `columns` names every column, so that a new one needs a decision. */
export const anonymiseRows = <Table extends PgTable>(
  relation: Table,
  column: PgColumn,
  options: Pick<Person, 'through'> & {
    because: string;
    columns: {
      [Property in keyof Table['$inferSelect']]: typeof keep | Table['$inferSelect'][Property] | SQL;
    };
  },
): ErasureRule => ({ action: 'anonymise', relation, column, ...options });

/** Declares that no column of the table or view contains data about a person. */
export const keepRows = (relation: PgTable | PgView, because: string): ErasureRule => ({
  action: 'keep',
  relation,
  because,
});
