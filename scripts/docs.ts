// npm run docs: writes the pages of docs/ that are generated from the schema and from the command line.
import { generatePages, stalePages, writePages } from './docs/pages.ts';

const pages = await generatePages();
const stale = stalePages(pages);
writePages(pages);
console.log(stale.length > 0 ? `written: ${stale.join(', ')}` : 'All generated pages were current.');
