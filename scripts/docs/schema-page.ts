// docs/schema.md: every database as a diagram, every table with its columns and what they mean.
import { type DatabaseKey, databaseKeys, databases, definitionOf } from '../../src/databases.ts';
import { type Comments, readComments } from './comments.ts';
import { entityDiagram } from './entity-diagram.ts';
import { markdownTable } from './markdown.ts';
import { type ColumnFacts, type RelationFacts, readEnums, readRelations } from './relations.ts';

export async function schemaPage(): Promise<string> {
  const chapters = [];
  for (const key of databaseKeys) chapters.push(chapter(key, await readComments(key)));
  return [
    '# Schema',
    'What each database holds, from the files in `schema/` and the comments in the migrations.',
    'A solid line is a foreign key. A dashed line spans databases, which no foreign key can: `requireUser` asks ' +
      'atriz_core before the id is written, and `npm run db:references` finds what points to nobody.',
    'Every `created_at` and `updated_at` is kept by the database: by a default, and by a trigger.',
    ...chapters,
  ].join('\n\n');
}

function chapter(key: DatabaseKey, comments: Comments): string {
  const { schema, database, holds } = definitionOf(key);
  const relations = readRelations(schema);
  return [
    `## ${database}`,
    `\`${key}\`: ${holds}.`,
    `\`\`\`mermaid\n${entityDiagram(relations)}\n\`\`\``,
    ...relations.map((relation) => relationSection(relation, comments, readEnums(schema))),
  ].join('\n\n');
}

export function relationSection(
  { name, kind, columns }: RelationFacts,
  comments: Comments,
  enums: ReadonlyMap<string, readonly string[]>,
): string {
  const rows = columns.map((column) => {
    const values = enums
      .get(column.type)
      ?.map((value) => `\`${value}\``)
      .join(', ');
    const notes = [...keyNotes(column), values, comments.get(`${name}.${column.name}`)];
    return [
      `\`${column.name}\``,
      column.notNull ? column.type : `${column.type}, may be null`,
      notes
        .filter((note) => note !== undefined)
        .map((note) => (note.endsWith('.') ? note : `${note}.`))
        .join(' '),
    ];
  });
  return [
    `### ${name}${kind === 'view' ? ' (view)' : ''}`,
    ...[comments.get(name)].filter((comment) => comment !== undefined),
    markdownTable(['column', 'type', ''], rows),
  ].join('\n\n');
}

function keyNotes({ primaryKey, unique, reference, coreUser }: ColumnFacts): string[] {
  const deleted = reference?.onDelete === 'no action' ? '' : `, on delete ${reference?.onDelete}`;
  return [
    primaryKey && 'Primary key',
    unique && 'Unique',
    reference && `→ \`${reference.table}.${reference.column}\`${deleted}`,
    coreUser && `⇢ \`users.id\` in ${databases.core.database}`,
  ].filter((note) => note !== false && note !== undefined);
}
