// The ER diagrams on the page, drawn by Graphviz from the schema files, like the Mermaid diagrams of docs/schema.md.
import { type Graph, instance } from '@viz-js/viz';
import { databaseKeys, databases, definitionOf } from '../../src/databases.ts';
import { type ColumnFacts, type RelationFacts, readRelations } from '../docs/relations.ts';
import { type Html, html, trusted } from './html.ts';

const people = `${databases.core.database}.users`;

/** Shows what the databases should hold. Graphviz is compiled to WebAssembly, which takes a moment to start. */
export async function diagramSection(): Promise<Html> {
  const graphviz = await instance();
  return html`<section id="diagrams" aria-labelledby="diagrams-title">
<h2 id="diagrams-title">Diagrams</h2>
<p>Drawn from the schema of this version. PK is a primary key, FK a foreign key, UK unique; a type with ? may be null.
A dashed line spans databases, which no foreign key can.</p>
${databaseKeys.map((key) => {
  const { database, schema } = definitionOf(key);
  const relations = readRelations(schema);
  const svg = graphviz.renderString(graphOf(relations), { format: 'svg' });
  const title = `ER diagram of ${database}: ${relations.map(({ name }) => name).join(', ')}`;
  return html`<h3>${database}</h3>
<div class="scroll diagram" role="region" aria-label="Diagram of ${database}" tabindex="0">${trusted(asPart(svg, title))}</div>`;
})}
</section>`;
}

function graphOf(relations: readonly RelationFacts[]): Graph {
  const edges = relations.flatMap(relationships);
  const hasPeople = edges.some(({ tail }) => tail === people);
  const nodes = relations.map((relation) => ({
    name: relation.name,
    attributes: { label: { html: nodeLabel(relation).markup } },
  }));
  const outside = {
    name: people,
    attributes: { shape: 'box', style: 'rounded,dashed', margin: '0.15,0.08' },
  };
  return {
    graphAttributes: { rankdir: 'LR', nodesep: 0.35, ranksep: 0.9, bgcolor: 'transparent', pad: 0.1 },
    nodeAttributes: { shape: 'plain', fontname: 'Helvetica', fontsize: 11 },
    edgeAttributes: { dir: 'both', arrowsize: 0.8 },
    nodes: [...(hasPeople ? [outside] : []), ...nodes],
    edges,
  };
}

/** A table with a row for each column. Edges begin at the last cell of a row and end at the first cell of a row. */
function nodeLabel({ name, kind, columns }: RelationFacts): Html {
  return html`<table border="0" cellborder="1" cellspacing="0" cellpadding="4">
<tr><td colspan="3" bgcolor="#eeeeee"><b>${name}</b>${kind === 'view' && ' (view)'}</td></tr>
${columns.map(
  (column) =>
    html`<tr><td align="left" port="${column.name}">${column.name}</td><td align="left">${column.type}${!column.notNull && ' ?'}</td><td port="to ${column.name}">${keysOf(column)}</td></tr>`,
)}</table>`;
}

const keysOf = ({ primaryKey, unique, reference, coreUser }: ColumnFacts): string =>
  [primaryKey && 'PK', (reference ?? coreUser) && 'FK', unique && 'UK'].filter(Boolean).join(' ') || ' ';

/** Edges from one to many, with crow's feet. Dashed edges span two databases, which a foreign key cannot. */
function relationships({ name, columns }: RelationFacts): Graph['edges'] & object {
  return columns.flatMap((column) => {
    const { reference, coreUser, notNull, unique, primaryKey } = column;
    if (!reference && !coreUser) return [];
    return [
      {
        tail: reference?.table ?? people,
        head: name,
        attributes: {
          ...(reference && { tailport: `to ${reference.column}:e` }),
          headport: `${column.name}:w`,
          arrowtail: notNull ? 'teetee' : 'teeodot',
          arrowhead: unique || primaryKey ? 'teeodot' : 'crowodot',
          ...(!reference && { style: 'dashed' }),
        },
      },
    ];
  });
}

/** Returns the svg element with a title. Removes ids, because two diagrams on one page would share them. */
function asPart(svg: string, title: string): string {
  return svg
    .slice(svg.indexOf('<svg'))
    .replaceAll(/<title>[^<]*<\/title>\n?/g, '')
    .replaceAll(/<!--.*?-->\n?/gs, '')
    .replaceAll(/ id="[^"]*"/g, '')
    .replaceAll(/ xmlns(:xlink)?="[^"]*"/g, '')
    .replace('<svg', '<svg role="img" class="entities"')
    .replace('>', `>${html`<title>${title}</title>`.markup}`);
}
