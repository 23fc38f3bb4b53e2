// Prints the findings of the doctor, grouped by database, each with its mend on the next line.
import { plural } from '../cli/output.ts';
import type { Finding } from './finding.ts';
import type { DoctorReport } from './run.ts';

export function printReports(reports: readonly DoctorReport[]): void {
  for (const { key, findings } of reports) {
    console.log(
      `${key.padEnd(8)}  ${findings.length === 0 ? 'healthy' : plural(findings.length, 'finding')}`,
    );
    printFindings(findings);
  }
  const findings = reports.flatMap((report) => report.findings);
  if (findings.length > 0) console.log(`\n${summary(findings)}`);
}

export function printFindings(findings: readonly Finding[]): void {
  for (const { severity, check, reason, mend, note } of findings) {
    console.log(`  ${severity.padEnd(7)}  ${check}: ${reason}`);
    console.log(`           ${mend.replaceAll('\n', '\n           ')}`);
    if (note) console.log(`           (${note})`);
  }
}

/** `2 errors, 1 warning` */
export function summary(findings: readonly Finding[]): string {
  const count = (severity: Finding['severity']) =>
    plural(findings.filter((finding) => finding.severity === severity).length, severity);
  return `${count('error')}, ${count('warning')}`;
}

/** What `--json` prints for one database. */
export const asJson = ({ key, database, findings }: DoctorReport): DoctorReport & { isHealthy: boolean } => ({
  key,
  database,
  isHealthy: findings.length === 0,
  findings,
});
