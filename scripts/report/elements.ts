// Elements of the page: tables, badges, notices and times.
import { type Fact, isUnknown, type Unknown } from './fact.ts';
import { type Html, html } from './html.ts';

type Cell = string | number | Html;

export interface Table {
  readonly caption: string;
  readonly head: readonly string[];
  /** The first cell of each row is its header. */
  readonly rows: readonly (readonly Cell[])[];
  /** Positions of the columns that contain numbers, from 0. */
  readonly numbers?: readonly number[];
}

/** A wide table scrolls sideways, so that the page does not. The keyboard can scroll it too. */
export function table({ caption, head, rows, numbers = [] }: Table): Html {
  const kind = (index: number) => (numbers.includes(index) ? html` class="number"` : html``);
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"><table>
<caption>${caption}</caption>
<thead><tr>${head.map((title, index) => html`<th scope="col"${kind(index)}>${title}</th>`)}</tr></thead>
<tbody>${rows.map(
    ([name = '', ...cells]) => html`
<tr><th scope="row">${name}</th>${cells.map((cell, index) => html`<td${kind(index + 1)}>${cell}</td>`)}</tr>`,
  )}
</tbody></table></div>`;
}

export type Tone = 'good' | 'warning' | 'error' | 'neutral';

/** The text must say what the colour means, for people who cannot see it. */
export const badge = (tone: Tone, text: string): Html => html`<span class="badge ${tone}">${text}</span>`;

export const details = (summary: string, content: Html | readonly Html[]): Html =>
  html`<details><summary>${summary}</summary>${content}</details>`;

export const notice = ({ unknown }: Unknown): Html =>
  html`<p class="unknown">${badge('neutral', 'unknown')} ${unknown}</p>`;

/** Renders a fact, or the reason why it is unknown. */
export const show = <Value extends object>(fact: Fact<Value>, render: (value: Value) => Html): Html =>
  isUnknown(fact) ? notice(fact) : render(fact);

/** `2026-11-28 11:40`, in UTC. */
export const moment = (iso: string): string => iso.slice(0, 16).replace('T', ' ');

/** A time in UTC, which stays on one line in a table. */
export const when = (iso: string): Html => html`<time datetime="${iso}">${moment(iso)}</time>`;

/** A time in UTC, and its distance from the time of the report. */
export function timeElement(iso: string | null, now: string, none = 'never'): Html {
  if (iso === null) return html`${none}`;
  return html`${when(iso)} <small>${distance(iso, now)}</small>`;
}

const steps = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
] as const;

/** `3 hours ago`, `in 20 minutes`, `now` */
export function distance(iso: string, now: string): string {
  const length = Date.parse(iso) - Date.parse(now);
  const [unit, size] = steps.find(([, size]) => Math.abs(length) >= size) ?? ['minute', 60_000];
  const count = Math.round(Math.abs(length) / size);
  if (count === 0) return 'now';
  const text = `${count} ${unit}${count === 1 ? '' : 's'}`;
  return length < 0 ? `${text} ago` : `in ${text}`;
}
