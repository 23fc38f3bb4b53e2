// The check that env.example and the settings name the same variables.
import { expect, test } from 'vitest';
import { environmentProblems, shownVariables } from '../../scripts/checks/variables.ts';

const source = `
  const serverVariables = ['PGHOST', 'PGPORT'] as const;
  const url = env.DATABASE_URL; process.env.TZ = 'UTC'; const { PATH } = { PATH: env.PATH };
  const password = env[\`\${role.toUpperCase()}_PASSWORD\`];
`;
const example =
  'PGHOST=localhost\n# PGPORT=5432\n# DATABASE_URL=a?b=C\n# Some words, X=1\nCORE_URL=c\nAPP_PASSWORD=\n';

test('variables in lists, as members and by their ending are known; those of the system are not asked for', () => {
  expect(environmentProblems(example, source, ['CORE_URL'])).toEqual([]);
});

test('one that is read but not shown, and one that nothing reads, are named', () => {
  expect(
    environmentProblems(example.replace('# PGPORT', '# PGPRT'), source, ['CORE_URL', 'SHOP_URL']),
  ).toEqual([
    'PGPORT is read, but not shown.',
    'SHOP_URL is read, but not shown.',
    'PGPRT is shown, but nothing reads it.',
  ]);
});

test('a word within a comment or within a URL is not a variable', () => {
  expect([...shownVariables(example)]).toEqual([
    'PGHOST',
    'PGPORT',
    'DATABASE_URL',
    'CORE_URL',
    'APP_PASSWORD',
  ]);
});
