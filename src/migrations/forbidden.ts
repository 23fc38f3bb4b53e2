// What a migration may not say, found before any of it runs.
//
// A lexer of a few lines, because the real parser (libpg-query) is 2 MB of WASM that applications
// would install to start: it only has to tell statements from the text inside of them.

const comment = String.raw`--[^\n]*|/\*[\s\S]*?\*/`;
const quoted = String.raw`\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$(?:[A-Za-z_]\w*)?\$)[\s\S]*?\1`;
const opaque = new RegExp(`${comment}|${quoted}`, 'g');

const control =
  /^(begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction)\b/i;
const copyIn = /^copy\b[\s\S]*\bfrom\s+stdin\b/i;

/** Why a file cannot be a migration, or undefined where it can. */
export function forbiddenStatement(sql: string): string | undefined {
  if (sql.startsWith('\uFEFF'))
    return 'begins with a byte order mark, which PostgreSQL refuses: save it without one.';
  const bare = sql.replace(opaque, ' ');
  // The body of a function in standard SQL has an END of its own.
  if (/\bbegin\s+atomic\b/i.test(bare)) return undefined;
  for (const piece of bare.split(';')) {
    const statement = piece.trim();
    const word = control.exec(statement)?.[1];
    if (word) {
      return `says ${word.toUpperCase()}: each migration is one transaction already, or none at all with "-- transaction: none" in its first line.`;
    }
    if (copyIn.test(statement))
      return 'says COPY … FROM STDIN, which waits for data that nobody sends: use INSERT.';
  }
  return undefined;
}
