// Serves the page to browsers on this machine, with current facts.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readReport } from './facts.ts';
import { renderPage } from './page.ts';

/** Seconds after which a browser loads the page again. Browsers share a page for half of this time. */
const refreshSeconds = 10;
const address = '127.0.0.1';

interface LivePage extends AsyncDisposable {
  readonly url: string;
}

/** Answers GET on loopback only, and only if the Host header names this server, which prevents DNS rebinding. */
export async function servePage(port = 0): Promise<LivePage> {
  const page = sharedPage();
  const server = createServer((request, response) => {
    const { port } = server.address() as AddressInfo;
    answer(request, response, port, page).catch((error: Error) => {
      console.error(`The report could not be made: ${error.message}`);
      refuse(response, 500, 'The report could not be made: the terminal says why.');
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, address, resolve);
  });
  return {
    url: `http://${address}:${(server.address() as AddressInfo).port}/`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(
  { method, url, headers }: IncomingMessage,
  response: ServerResponse,
  port: number,
  page: () => Promise<string>,
): Promise<void> {
  if (![`${address}:${port}`, `localhost:${port}`].includes(headers.host ?? '')) {
    return refuse(response, 421, `Ask for http://${address}:${port}/.`);
  }
  if (method !== 'GET') return refuse(response.setHeader('Allow', 'GET'), 405, 'The page can only be read.');
  if (url !== '/') return refuse(response, 404, 'There is one page only: /.');
  const html = await page();
  response
    .writeHead(200, {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
      'Cross-Origin-Resource-Policy': 'same-origin',
      'X-Content-Type-Options': 'nosniff',
    })
    .end(html);
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

/** Reads the databases only once at a time, however many browsers ask. */
function sharedPage(): () => Promise<string> {
  let made = Number.NEGATIVE_INFINITY;
  let page: Promise<string> | undefined;
  return () => {
    if (page && performance.now() - made < refreshSeconds * 500) return page;
    made = Number.POSITIVE_INFINITY;
    page = readReport().then((report) => renderPage(report, { refreshSeconds }));
    page
      .finally(() => {
        made = performance.now();
      })
      .catch(() => {
        page = undefined;
      });
    return page;
  };
}
