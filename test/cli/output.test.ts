// How tables fit a terminal.
import { describe, expect, test } from 'vitest';
import { formatTable } from '../../scripts/cli/output.ts';

const head = ['policy', 'setting', 'every'];
const rows = [
  ['refresh', 'end offset 01:00:00, start offset 7 days', 30],
  ['retention', 'drop after 30 days', ''],
];
const widest = (text: string) => Math.max(...text.split('\n').map(({ length }) => length));

describe('a table', () => {
  test('has one line for each row where there is room', () => {
    expect(formatTable(head, rows, 80).split('\n')).toEqual([
      'policy    setting                                  every',
      'refresh   end offset 01:00:00, start offset 7 days 30',
      'retention drop after 30 days',
    ]);
    expect(formatTable(['a'], [['x'.repeat(300)]], Number.POSITIVE_INFINITY)).toBe(`a\n${'x'.repeat(300)}`);
  });

  test('wraps between words where there is little', () => {
    expect(formatTable(head, rows, 40).split('\n')).toEqual([
      'policy    setting                  every',
      'refresh   end offset 01:00:00,     30',
      '          start offset 7 days',
      'retention drop after 30 days',
    ]);
  });

  test('becomes blocks where rows would have many lines, or a word has no room', () => {
    expect(formatTable(head, rows, 28).split('\n')).toEqual([
      'policy  refresh',
      'setting end offset 01:00:00,',
      '        start offset 7 days',
      'every   30',
      '',
      'policy  retention',
      'setting drop after 30 days',
    ]);
    expect(formatTable(head, rows, 12)).toContain('01:00:00');
  });

  test('never breaks a word, and is never wider than the terminal that its words fit', () => {
    for (let width = 20; width <= 60; width += 1) {
      const text = formatTable(head, rows, width);
      if (width >= 30) expect(widest(text)).toBeLessThanOrEqual(width);
      for (const word of rows.flat().join(' ').split(' ')) expect(text).toContain(word);
    }
  });
});
