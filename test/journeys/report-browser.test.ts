// report in a real browser: nothing fails, nothing is fetched, nothing overflows, and axe finds nothing serious.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { AxeResults } from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { vehicles } from '../../schema/mextrack.ts';
import { drive } from '../../scripts/simulation/fleet.ts';
import { recordLocations } from '../../src/index.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { ArrangedServer } from '../support/access.ts';
import { runCli } from '../support/cli.ts';
import { day, hour } from '../support/tracking-points.ts';

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
);
const folder = join(packageRoot(), 'node_modules', '.cache', 'report');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const viewportHeight = 1600;
const title = `the page in Chromium${executablePath ? '' : ' (skipped: no chromium is installed)'}`;

describe.skipIf(!executablePath)(title, () => {
  const server = new ArrangedServer();
  const file = join(folder, 'report.html');
  let browser: Browser;

  beforeAll(async () => {
    mkdirSync(folder, { recursive: true });
    await server.arrange();
    const device = await fillFleet();
    const environment = { ...server.environment, PSHOP_DATABASE_URL: 'postgresql://127.0.0.1:1/pshop_db' };
    expect(await runCli(['report', '--out', file, '--device', device], environment)).toMatchObject({
      code: 0,
    });
    browser = await chromium.launch({
      ...(executablePath && { executablePath }),
      // Root has no sandbox to begin with.
      args: ['--disable-gpu', ...(process.getuid?.() === 0 ? ['--no-sandbox'] : [])],
    });
  });
  afterAll(() => browser?.close());

  async function fillFleet(): Promise<string> {
    const fleet = Array.from({ length: 12 }, (_, index) => ({
      userId: randomUUID(),
      vehicleName: index === 0 ? `<b>"Long & quoted" vehicle name that goes on and on</b>` : `Truck ${index}`,
      deviceId: randomUUID(),
    }));
    await server.superuser('mextrack').orm.insert(vehicles).values(fleet);
    const now = Date.now();
    const points = fleet.flatMap(({ userId, deviceId }, index) => {
      const to = new Date(now - (index === 3 ? 3 * day : index * 60_000));
      const trip = { deviceId, userId, appSource: 'mextrack', to, from: new Date(to.getTime() - 6 * hour) };
      return [...drive({ ...trip, interval: 60, seed: index })];
    });
    // A stop of twenty minutes.
    const first = points.slice(100, 120).map((point) => ({ ...point, speed: 0 }));
    await recordLocations(server.superuser('tracking'), [
      ...points.slice(0, 100),
      ...first,
      ...points.slice(120),
    ]);
    return fleet[0]?.deviceId ?? '';
  }

  /** One for each screen: Chromium sometimes fails to draw a whole long page at once. */
  async function takePictures(page: Page, name: string): Promise<void> {
    const height = Number(await page.evaluate('document.documentElement.scrollHeight'));
    for (let top = 0; top < height; top += viewportHeight) {
      await page.evaluate(`scrollTo(0, ${top})`);
      await page.screenshot({ path: join(folder, `${name}-${1 + top / viewportHeight}.png`) });
    }
  }

  const sizes = [390, 1400].flatMap((width) =>
    (['light', 'dark'] as const).map((colorScheme) => ({ width, colorScheme })),
  );

  test.each(sizes)('$width pixels wide, $colorScheme', async ({ width, colorScheme }) => {
    const context = await browser.newContext({ viewport: { width, height: viewportHeight }, colorScheme });
    const page = await context.newPage();
    const problems: string[] = [];
    page.on('console', (message) => problems.push(message.text()));
    page.on('pageerror', (error) => problems.push(String(error)));
    const requests: string[] = [];
    page.on('request', (request) => requests.push(request.url()));
    try {
      await page.goto(pathToFileURL(file).href);
      expect(requests).toEqual([pathToFileURL(file).href]);
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
      expect(await page.evaluate('document.scripts.length + document.images.length')).toBe(0);
      await takePictures(page, `${width}-${colorScheme}`);
      await page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true");
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
      const { violations } = (await page.evaluate(`${axe}; axe.run()`)) as AxeResults;
      const serious = violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`);
      expect(serious).toEqual([]);
      expect(problems).toEqual([]);
    } finally {
      await context.close();
    }
  });

  test('with the keyboard: the first Tab leads past the navigation', async () => {
    const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
    await page.goto(pathToFileURL(file).href);
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate('document.activeElement.id')).toBe('main');
    await page.close();
  });

  test('on paper: light, and without navigation', async () => {
    const page = await browser.newPage({ colorScheme: 'dark' });
    await page.goto(pathToFileURL(file).href);
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
    expect(await page.evaluate("getComputedStyle(document.querySelector('nav')).display")).toBe('none');
    expect(await page.evaluate('getComputedStyle(document.body).color')).toBe('rgb(27, 36, 48)');
    await page.pdf({ path: join(folder, 'report.pdf'), format: 'A4' });
    await page.close();
  });
});
