// docs/commands.md: every command with its arguments and options, generated from the command line.
import type { Argument, Command, Option } from 'commander';
import { exitCodes } from '../cli/program.ts';
import { markdownTable } from './markdown.ts';

/** @param scripts The scripts of package.json, which run most commands. */
export function commandsPage(program: Command, scripts: Readonly<Record<string, string>>): string {
  return [
    '# Commands',
    `\`npm run db -- <command>\` runs each of them, \`${program.name()} <command>\` where the package is installed. ` +
      'A database is named by its key; none named means all of them, in order, unless the command says otherwise.',
    markdownTable(
      ['exit code', ''],
      exitCodes.map(([code, meaning]) => [String(code), meaning]),
    ),
    ...program.commands.flatMap((command) => sections(command, [], scripts)),
  ].join('\n\n');
}

function sections(
  command: Command,
  parents: readonly string[],
  scripts: Readonly<Record<string, string>>,
): string[] {
  const path = [...parents, command.name()];
  const nested = command.commands.flatMap((child) => sections(child, path, scripts));
  // A group of commands has no usage line: its subcommands have their own.
  const own = command.commands.length > 0 ? [] : [`\`\`\`sh\n${usage(command, path, scripts)}\n\`\`\``];
  const rows = [
    ...command.registeredArguments.map((argument) => [`\`${argumentName(argument)}\``, argument.description]),
    ...command.options
      .filter(({ hidden }) => !hidden)
      .map((option) => [`\`${option.flags}\``, optionText(option)]),
  ];
  return [
    `${'#'.repeat(path.length + 1)} ${path.join(' ')}`,
    sentence(command.description()),
    ...own,
    ...(rows.length > 0 ? [markdownTable(['argument or option', ''], rows)] : []),
    ...nested,
  ];
}

function usage(command: Command, path: readonly string[], scripts: Readonly<Record<string, string>>): string {
  // Prefer the shortest script: migrate over db:migrate.
  const names = Object.keys(scripts).sort((one, other) => one.length - other.length);
  const script =
    names.find((name) => scripts[name] === `tsx scripts/db.ts ${path.join(' ')}`) ??
    names.find((name) => scripts[name] === `tsx scripts/db.ts ${path[0]}`) ??
    'db';
  const ran = scripts[script]?.split(' ').slice(2) ?? [];
  const rest = [
    ...path.slice(ran.length),
    ...command.registeredArguments.map(argumentName),
    ...(command.options.some(({ hidden }) => !hidden) ? ['[options]'] : []),
  ];
  return [`npm run ${script}`, ...(rest.length > 0 ? ['--', ...rest] : [])].join(' ');
}

function argumentName(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '…' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

function optionText({ description, defaultValue, mandatory }: Option): string {
  const given = ['string', 'number'].includes(typeof defaultValue) ? ` (default: ${defaultValue})` : '';
  return `${description}${given}${mandatory ? ' (required)' : ''}`;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
