// The ER diagram of a database as SVG, drawn by Graphviz from the same facts as docs/schema.md.
import { type Graph, instance } from '@viz-js/viz';
import { databases } from '../../src/databases.ts';
import type { ColumnFacts, RelationFacts } from '../docs/relations.ts';
import { type Html, html, trusted } from './html.ts';

const people = `${databases.core.database}.users`;

/** Draws diagrams. Graphviz is compiled to WebAssembly, which takes a moment to start. */
export async function diagrams(): Promise<(name: string, relations: readonly RelationFacts[]) => Html> {
  const graphviz = await instance();
  return (name, relations) => {
    const svg = graphviz.renderString(graphOf(relations), { format: 'svg' });
    return trusted(
      asPart(svg, `ER diagram of ${name}: ${relations.map((relation) => relation.name).join(', ')}`),
    );
  };
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

/** A table with a row for each column. Edges end at the first cell of a row, and begin at the last. */
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

/** Edges from one to many, with crow's feet. Dashed lines span databases, where no foreign key can. */
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

/** The svg element with a title, and without ids, which two diagrams on one page would share. */
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
