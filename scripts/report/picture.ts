// Draws with Observable Plot on a document without a browser, once for wide screens and once for phones.
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { type Html, html, trusted } from './html.ts';

/** Pixels. */
export const wideWidth = 1040;
const narrowWidth = 336;

export interface Figure {
  /** What it shows, in a sentence: read aloud in the place of the picture. */
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

/** A colour of the legend, and the word for it. */
export const swatch = (kind: string, text: string): Html =>
  html`<span><span class="swatch ${kind}"></span>${text}</span>`;

function picture(title: string, options: Plot.PlotOptions): Html {
  const { document } = parseHTML('<!doctype html><html></html>');
  const svg = Plot.plot({ ...options, document: document as never, className: 'plot' });
  // Its rules stand in the page already.
  svg.querySelector('style')?.remove();
  // Of marks and axes. A group without a role may have none, and the title says it all.
  for (const group of svg.querySelectorAll('[aria-label]')) group.removeAttribute('aria-label');
  svg.setAttribute('role', 'img');
  const name = document.createElementNS('http://www.w3.org/2000/svg', 'title');
  name.textContent = title;
  svg.prepend(name as never);
  return trusted(roundNumbers(svg.outerHTML));
}

/** To tenths of a pixel, in attributes of shapes only: text of a database is never changed. */
const roundNumbers = (markup: string): string =>
  markup.replaceAll(/ (?:d|transform|[xyr][12]?|c[xy]|width|height)="[^"]*"/g, (attribute) =>
    attribute.replaceAll(/-?\d+\.\d{2,}/g, (number) => String(Math.round(Number(number) * 10) / 10)),
  );
