// Loaded into the process of drizzle-kit studio, whose server answers every website: only Drizzle Studio gets through.
// Not an option of drizzle-kit, because it has none (0.31). JavaScript, because a bare Node.js runs it.
// @ts-check
import { Server } from 'node:http';

const studio = 'https://local.drizzle.studio';
/** @type {(this: Server, event: string, ...args: any[]) => boolean} */
const emit = Server.prototype.emit;

/**
 * @this {Server}
 * @param {string} event
 * @param {any[]} args
 */
Server.prototype.emit = function emitToStudio(event, ...args) {
  if (event !== 'request' || args[0].headers.origin === studio) return emit.call(this, event, ...args);
  args[1].writeHead(403, { 'content-type': 'text/plain' }).end(`Only ${studio} may ask here.\n`);
  return true;
};
