// Draws an ER diagram in Mermaid, which GitHub renders.
import { databases } from '../../src/databases.ts';
import type { ColumnFacts, RelationFacts } from './relations.ts';

const people = `"${databases.core.database}.users"`;

// Does not use the library drizzle-dbml-generator: GitHub does not render its DBML, and it does not support relations
// across databases.

/** Solid lines are foreign keys. Dashed lines span two databases, where a foreign key is not possible. */
export function entityDiagram(relations: readonly RelationFacts[]): string {
  const lines = relations.flatMap((relation) => [
    `  ${relation.name} {`,
    ...relation.columns.map((column) => `    ${attribute(column)}`),
    '  }',
  ]);
  return ['erDiagram', ...lines, ...relations.flatMap(relationships)].join('\n');
}

function attribute({ name, type, primaryKey, unique, reference }: ColumnFacts): string {
  const keys = [primaryKey && 'PK', reference && 'FK', unique && 'UK'].filter(Boolean);
  return [mermaidType(type), name, keys.join(', ')].filter(Boolean).join(' ');
}

// Mermaid allows no spaces or commas in a type; the tables below the diagram show it in full.
const mermaidType = (type: string): string => type.replace(/\(.*\)/, '').replaceAll(/[^\w[\]]+/g, '_');

function relationships({ name, columns }: RelationFacts): string[] {
  return columns.flatMap((column) => {
    const parent = column.notNull ? '||' : '|o';
    const child = column.unique || column.primaryKey ? 'o|' : 'o{';
    if (column.reference) {
      return [`  ${column.reference.table} ${parent}--${child} ${name} : ${column.name}`];
    }
    return column.coreUser ? [`  ${people} ${parent}..${child} ${name} : ${column.name}`] : [];
  });
}
