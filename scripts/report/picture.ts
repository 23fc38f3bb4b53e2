// Draws charts with Observable Plot, without a browser, once for wide screens and once for phones.
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { type Html, html, trusted } from './html.ts';

/** Widths in pixels. */
export const wideWidth = 1040;
const narrowWidth = 336;

export interface Figure {
  /** Says what the figure shows, for screen readers. */
  readonly title: string;
  readonly draw: (width: number) => Plot.PlotOptions;
  readonly legend?: Html;
}

export function figure({ title, draw, legend }: Figure): Html {
  return html`<figure>
<div class="wide">${picture(title, { ...draw(wideWidth), width: wideWidth })}</div>
<div class="narrow">${picture(title, { ...draw(narrowWidth), width: narrowWidth })}</div>
${legend && html`<figcaption class="legend">${legend}</figcaption>`}
</figure>`;
}

/** An entry of the legend: a colour and its meaning. */
export const swatch = (kind: string, text: string): Html =>
  html`<span><span class="swatch ${kind}"></span>${text}</span>`;

function picture(title: string, options: Plot.PlotOptions): Html {
  const { document } = parseHTML('<!doctype html><html></html>');
  const svg = Plot.plot({ ...options, document: document as never, className: 'plot' });
  // style.ts replaces Plot's own style.
  svg.querySelector('style')?.remove();
  // aria-label is not allowed on groups without a role, and the title already describes the picture.
  for (const group of svg.querySelectorAll('[aria-label]')) group.removeAttribute('aria-label');
  svg.setAttribute('role', 'img');
  const name = document.createElementNS('http://www.w3.org/2000/svg', 'title');
  name.textContent = title;
  svg.prepend(name as never);
  return trusted(roundNumbers(svg.outerHTML));
}

/** Rounds to tenths of a pixel. Changes only attributes of shapes, never text from a database. */
const roundNumbers = (markup: string): string =>
  markup.replaceAll(/ (?:d|transform|[xyr][12]?|c[xy]|width|height)="[^"]*"/g, (attribute) =>
    attribute.replaceAll(/-?\d+\.\d{2,}/g, (number) => String(Math.round(Number(number) * 10) / 10)),
  );
