// The ER diagrams on the page, from the schema files: what the databases should hold.
import { databaseKeys, definitionOf } from '../../src/databases.ts';
import { readRelations } from '../docs/relations.ts';
import { diagrams } from './entity-diagram.ts';
import { type Html, html } from './html.ts';

export async function diagramSection(): Promise<Html> {
  const draw = await diagrams();
  return html`<section id="diagrams" aria-labelledby="diagrams-title">
<h2 id="diagrams-title">Diagrams</h2>
<p>Drawn from the schema of this version. PK is a primary key, FK a foreign key, UK unique; a type with ? may be null.
A dashed line spans databases, which no foreign key can.</p>
${databaseKeys.map((key) => {
  const { database, schema } = definitionOf(key);
  return html`<h3>${database}</h3>
<div class="scroll diagram" role="region" aria-label="Diagram of ${database}" tabindex="0">${draw(database, readRelations(schema))}</div>`;
})}
</section>`;
}
