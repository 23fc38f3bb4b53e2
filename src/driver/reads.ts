// Decides by the text of a statement whether the statement only reads. In doubt, it counts as a write.

const begins = /^[\s(]*(?:select|values|table|with)\b/i;
/**
 * Words that must not occur in a read, not even in a string or comment: they write, lock or depend on one server. `for`
 * covers FOR UPDATE; functions named pg_… act on the server that runs them.
 */
const forbidden =
  /\b(?:insert|update|delete|merge|into|for|lock|call|notify|nextval|setval|currval|lastval|set_config|current_setting|(?:dblink|lo|txid)_\w+|dblink|pg_\w+(?="?\s*\())\b/i;
const several = /;\s*\S/;

/** @param text one statement, with placeholders instead of parameter values. */
export const isRead = (text: string): boolean =>
  begins.test(text) && !forbidden.test(text) && !several.test(text);

interface QueryParts {
  strings: readonly string[];
  args: readonly unknown[];
}

/** Returns the text of a postgres.js query, with fragments and identifiers inserted, and `$` for each parameter. */
export function textOf({ strings, args }: QueryParts): string {
  return strings
    .map((part, index) => part + (index < strings.length - 1 ? textOfArgument(args[index]) : ''))
    .join('');
}

function textOfArgument(argument: unknown): string {
  if (Array.isArray(argument)) return argument.map(textOfArgument).join(' ');
  if (argument === null || typeof argument !== 'object') return '$';
  // A fragment is itself a query; an identifier has its text in `value`.
  if ('strings' in argument && 'args' in argument) return textOf(argument as QueryParts);
  const isParameter = 'type' in argument;
  return 'value' in argument && typeof argument.value === 'string' && !isParameter ? argument.value : '$';
}
