// What becomes of a person's rows when they are erased: the words in which each schema file says it.
import type { SQL } from 'drizzle-orm';
import type { PgColumn, PgTable, PgView } from 'drizzle-orm/pg-core';

/** Stands in place of an erased person. Nobody has it: ids of users are random. */
export const erasedUserId = '00000000-0000-0000-0000-000000000000';

/** The column stays as it is. */
export const keep = Symbol('keep');

/**
 * What says whose row it is: a column of its own, or `person` of the row that the column points to.
 * It points by `key`, or by what `as` makes of it.
 */
export interface Person {
  readonly column: PgColumn;
  readonly through?: { readonly key: PgColumn; readonly as?: SQL; readonly person: PgColumn };
}

/** A relation has one rule for each way in which its rows can belong to a person. */
export type ErasureRule =
  | ({ readonly action: 'delete'; readonly relation: PgTable | PgView } & Person)
  | ({
      readonly action: 'anonymise';
      readonly relation: PgTable;
      readonly because: string;
      /** What replaces each column's value, by property. `keep` where it stays. */
      readonly columns: Readonly<Record<string, unknown>>;
    } & Person)
  | { readonly action: 'keep'; readonly relation: PgTable | PgView; readonly because: string };

/** The person's rows go. Rows that hang on them need a rule before this one. */
export const deleteRows = (
  relation: PgTable | PgView,
  column: PgColumn,
  options: Pick<Person, 'through'> = {},
): ErasureRule => ({ action: 'delete', relation, column, ...options });

/** The person's rows stay, without the person. Names every column, so that a new one needs a decision. */
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

/** No column of the relation tells anything about a person. */
export const keepRows = (relation: PgTable | PgView, because: string): ErasureRule => ({
  action: 'keep',
  relation,
  because,
});
