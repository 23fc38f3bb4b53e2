// Whether a statement only reads, judged by its text: in doubt it does not.

const begins = /^[\s(]*(?:select|values|table|with)\b/i;
/**
 * Words that a read may not hold anywhere, in a string or a comment either: what writes, locks or belongs
 * to one server. `for` stands for FOR UPDATE; PostgreSQL's own pg_ functions act on the server that runs them.
 */
const forbidden =
  /\b(?:insert|update|delete|merge|into|for|lock|call|notify|nextval|setval|currval|lastval|set_config|current_setting|(?:dblink|lo|txid)_\w+|dblink|pg_\w+(?="?\s*\())\b/i;
const several = /;\s*\S/;

/** @param text one statement, its parameters left out. */
export const isRead = (text: string): boolean =>
  begins.test(text) && !forbidden.test(text) && !several.test(text);

interface QueryParts {
  strings: readonly string[];
  args: readonly unknown[];
}

/** The text of a postgres.js query with its fragments and identifiers in place, each parameter a `$`. */
export function textOf({ strings, args }: QueryParts): string {
  return strings
    .map((part, index) => part + (index < strings.length - 1 ? textOfArgument(args[index]) : ''))
    .join('');
}

function textOfArgument(argument: unknown): string {
  if (Array.isArray(argument)) return argument.map(textOfArgument).join(' ');
  if (argument === null || typeof argument !== 'object') return '$';
  // A fragment is a query in itself; an identifier holds its text as `value`.
  if ('strings' in argument && 'args' in argument) return textOf(argument as QueryParts);
  const isParameter = 'type' in argument;
  return 'value' in argument && typeof argument.value === 'string' && !isParameter ? argument.value : '$';
}
