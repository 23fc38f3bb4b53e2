// Names in SQL: always quoted, whatever they contain.

export const quoteIdentifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Quotes `table` or `schema.table`. */
export const quoteRelation = (relation: string): string => relation.split('.').map(quoteIdentifier).join('.');
