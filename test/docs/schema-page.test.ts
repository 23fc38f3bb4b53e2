// The generated page of the schema: what it must tell, on a schema made for it and on the registry's.
import { pgEnum, pgTable, pgView, text, unique, uuid, varchar } from 'drizzle-orm/pg-core';
import { expect, test } from 'vitest';
import { coreUserId, primaryId } from '../../schema/columns.ts';
import { commentsIn } from '../../scripts/docs/comments.ts';
import { entityDiagram } from '../../scripts/docs/entity-diagram.ts';
import { readEnums, readRelations } from '../../scripts/docs/relations.ts';
import { relationSection, schemaPage } from '../../scripts/docs/schema-page.ts';
import { databaseKeys, definitionOf } from '../../src/databases.ts';

const colour = pgEnum('colour', ['red', 'green']);
const boats = pgTable('boats', {
  id: primaryId(),
  ownerId: coreUserId('owner_id').notNull(),
  hull: colour('hull').notNull(),
  name: varchar('name', { length: 40 }),
});
const sails = pgTable(
  'sails',
  {
    id: primaryId(),
    boatId: uuid('boat_id')
      .notNull()
      .references(() => boats.id, { onDelete: 'cascade' }),
    spareOf: uuid('spare_of').references(() => boats.id),
    makerId: coreUserId('maker_id').unique(),
  },
  (table) => [unique('sails_boat').on(table.boatId), unique('sails_pair').on(table.boatId, table.spareOf)],
);
const fleet = pgView('fleet', { label: text('label').notNull() }).existing();
const schema = { boats, colour, fleet, sails, notARelation: 'text' };

test('the diagram has solid lines for foreign keys, dashed ones to the users of atriz_core, and their cardinality', () => {
  const lines = entityDiagram(readRelations(schema)).split('\n');
  expect(lines.filter((line) => / : /.test(line)).map((line) => line.trim())).toEqual([
    '"atriz_core.users" ||..o{ boats : owner_id',
    'boats ||--o| sails : boat_id',
    'boats |o--o{ sails : spare_of',
    '"atriz_core.users" |o..o| sails : maker_id',
  ]);
  expect(lines).toEqual(
    expect.arrayContaining([
      '    uuid id PK',
      '    uuid boat_id FK, UK',
      '    varchar name',
      '    text label',
    ]),
  );
});

test('a table is told with its comment, the meaning of its columns and the values of an enum', () => {
  const [table] = readRelations(schema);
  const comments = new Map([
    ['boats', 'What sails.'],
    ['boats.name', 'Painted on | both <sides>'],
  ]);
  const section = table && relationSection(table, comments, readEnums(schema));
  expect(section).toContain('### boats\n\nWhat sails.\n');
  expect(section).toContain('| `hull` | colour | `red`, `green`. |');
  expect(section).toContain('| `name` | varchar(40), may be null | Painted on \\| both &lt;sides>. |');
  expect(section).toContain('| `owner_id` | uuid | ⇢ `users.id` in atriz_core. |');
});

test('comments are the ones that the migrations leave behind', async () => {
  const comments = await commentsIn([
    `CREATE TABLE "a" (b int); COMMENT ON TABLE "a" IS 'It''s first'; COMMENT ON COLUMN "a"."b" IS 'gone';`,
    `COMMENT ON TABLE public.a IS 'It''s second'; COMMENT ON COLUMN a.b IS NULL; COMMENT ON SCHEMA a IS 'no';`,
  ]);
  expect([...comments]).toEqual([['a', "It's second"]]);
});

test('every table and every column of every database is on the page, and every table has a comment', async () => {
  const page = await schemaPage();
  for (const key of databaseKeys) {
    for (const { name, columns } of readRelations(definitionOf(key).schema)) {
      expect(page).toMatch(new RegExp(`^### ${name}( \\(view\\))?\n\n[^|\n]+\n\n\\| column`, 'm'));
      expect(columns.length).toBeGreaterThan(0);
      for (const column of columns) expect(page).toContain(`| \`${column.name}\` | ${column.type}`);
    }
  }
});
