// The last step of npm run build: writes the text of drizzle/ into the compiled form of src/migrations/packed.ts.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { databaseKeys } from '../src/databases.ts';
import { packageRoot } from '../src/migrations/package-root.ts';

const root = packageRoot();
const paths = databaseKeys.flatMap((key) => {
  const names = readdirSync(join(root, 'drizzle', key)).filter((name) => name.endsWith('.sql'));
  return [...names, 'meta/_journal.json'].map((name) => `drizzle/${key}/${name}`);
});
const packed = Object.fromEntries(paths.map((path) => [path, readFileSync(join(root, path), 'utf8')]));
const compiled = join(root, 'dist', 'src', 'migrations', 'packed.js');
writeFileSync(compiled, `export const packed = ${JSON.stringify(packed, null, 1)};\n`);
