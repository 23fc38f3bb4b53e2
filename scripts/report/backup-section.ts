// The backups on the page: the newest of each database, its age and size, and the last drill.
import { definitionOf } from '../../src/databases.ts';
import { formatBytes, plural } from '../cli/output.ts';
import { defaultFolder } from '../commands/backup.ts';
import { titleOf } from './database-section.ts';
import { badge, show, table, timeElement } from './elements.ts';
import type { BackupReport, Report } from './facts.ts';
import { type Html, html } from './html.ts';

export function backupSection({ backups, databases, at }: Report): Html {
  return html`<section id="backups" aria-labelledby="backups-title">
<h2 id="backups-title">Backups</h2>
${show(backups, (found) => html`${summary(found)}${newest(found, databases, at)}`)}
</section>`;
}

function summary({ backups, damaged }: BackupReport): Html {
  const bytes = backups.reduce((sum, backup) => sum + backup.bytes, 0);
  return html`<p>${plural(backups.length, 'backup')} in <code>./${defaultFolder}</code>${backups.length > 0 && `, ${formatBytes(bytes)} together`}.</p>
${damaged.map((reason) => html`<p>${badge('error', 'damaged')} ${reason}</p>`)}`;
}

function newest({ backups, drills }: BackupReport, reports: Report['databases'], at: string): Html {
  return table({
    caption: 'The newest backup of each database',
    head: ['database', 'made (UTC)', 'size', 'holds', 'wanted', 'last drill (UTC)'],
    numbers: [2],
    rows: reports.map((report) => {
      const { key } = report;
      const [database, { backup }] = [titleOf(report), definitionOf(key)];
      const wanted = `every ${backup.every}${backup.critical ? '' : ', on request'}`;
      const drill = drills[key];
      const drilled = drill
        ? html`${timeElement(drill.at, at)} ${drill.problems === 0 ? badge('good', 'the same') : badge('error', 'differs')}`
        : 'none';
      for (const { startedAt, databases } of backups) {
        const held = databases.find((one) => one.key === key);
        if (held)
          return [database, timeElement(startedAt, at), formatBytes(held.bytes), held.holds, wanted, drilled];
      }
      return [database, badge(backup.critical ? 'warning' : 'neutral', 'no backup'), '', '', wanted, drilled];
    }),
  });
}
