// The arguments of a script, whichever package manager ran it.

/** pnpm passes the `--` of `pnpm run x -- --option` on to the script, where npm takes it away. */
export const commandLine = (): string[] => {
  const separator = process.argv.indexOf('--', 2);
  return process.argv.filter((_, index) => index !== separator);
};
