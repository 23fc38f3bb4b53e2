// Finds the environment variables that the sources read and those that env.example shows.

/**
 * Finds variables in the text of src/config.ts: `env.NAME`, and quoted names in lists named `…Variables`.
 * For names that are built at run time, `endings` has their literal suffixes, such as `_PASSWORD`.
 */
export function readVariables(source: string): { names: ReadonlySet<string>; endings: readonly string[] } {
  // "env.NAME =" is an assignment, not a read.
  const members = [...source.matchAll(/\benv\.([A-Z][A-Z0-9_]*)\b(?!\s*=[^=])/g)];
  const lists = [...source.matchAll(/Variables = \[([^\]]*)\]/g)];
  const listed = lists.flatMap(([, list]) => [...(list ?? '').matchAll(/'([A-Z][A-Z0-9_]*)'/g)]);
  const endings = [...source.matchAll(/\$\{[^`]*\}(_[A-Z_]+)`/g)].map(([, ending]) => ending ?? '');
  return { names: new Set([...members, ...listed].map(([, name]) => name ?? '')), endings };
}

/** The variables that env.example sets or shows in a comment. */
export const shownVariables = (example: string): ReadonlySet<string> =>
  new Set([...example.matchAll(/^(?:# ?)?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name ?? ''));

/** Variables of the operating system, which nobody sets in an env file. */
const foreign = new Set(['PATH', 'HOME', 'TZ']);

/** Returns a sentence for each variable that env.example lacks, and for each that it shows but nothing reads. */
export function environmentProblems(
  example: string,
  source: string,
  urlVariables: readonly string[],
): string[] {
  const { names, endings } = readVariables(source);
  const read = new Set([...names, ...urlVariables].filter((name) => !foreign.has(name)));
  const shown = shownVariables(example);
  const isRead = (name: string) => read.has(name) || endings.some((ending) => name.endsWith(ending));
  return [
    ...[...read].filter((name) => !shown.has(name)).map((name) => `${name} is read, but not shown.`),
    ...[...shown].filter((name) => !isRead(name)).map((name) => `${name} is shown, but nothing reads it.`),
  ];
}
