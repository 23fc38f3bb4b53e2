// Finds where the first command of a text begins.

/** Offset of the first command, after white space, semicolons and comments; the text's length if there is none. */
export function firstCommand(text: string): number {
  const skipped = /[ \t\n\r\f\v;]+|--[^\n\r]*|(\/\*)/y;
  for (;;) {
    const at = skipped.lastIndex;
    const match = skipped.exec(text);
    if (!match) return at;
    if (match[1]) skipped.lastIndex = endOfComment(text, at);
  }
}

/** Offset after a block comment. In PostgreSQL, block comments may be nested. */
function endOfComment(text: string, start: number): number {
  const mark = /\/\*|\*\//g;
  mark.lastIndex = start;
  let depth = 0;
  for (const match of text.matchAll(mark)) {
    depth += match[0] === '/*' ? 1 : -1;
    if (depth === 0) return match.index + 2;
  }
  return text.length;
}
