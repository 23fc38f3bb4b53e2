// Loaded into drizzle-kit studio, whose server would answer every website. Refuses requests of all but Drizzle Studio.
// drizzle-kit 0.31 has no option for this. This file is JavaScript, so that Node.js needs no TypeScript loader.
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
