/**
 * A download leaves the thread that talks to the node alone. What is measured is the CPU time that the thread takes from one
 * turn of its loop to the next: unlike the time on the wall, it does not depend on what else runs on this machine.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { serve, startServer, taskPackage } from '../lib/http-server.ts';
import { cacheFolder, contentOf } from '../lib/image-cache.ts';
import { bytes } from '../lib/scale.ts';

/** Milliseconds between two looks, and most that one turn may take. */
const TICK = 5;
const MOST = 50;

const MEASURE = `
  let last = process.threadCpuUsage();
  let turns = 0;
  let most = 0;
  const look = () => {
    const now = process.threadCpuUsage();
    most = Math.max(most, now.user + now.system - last.user - last.system);
    last = now;
    turns++;
  };
`;

t.test('no turn of the loop is long while an image is downloaded and hashed', async (t) => {
  const content = contentOf(bytes(1024 ** 3), 1);
  const { origin } = await startServer(t, (request, response) =>
    serve(request, response, content, { etag: '"1"', ranges: true }),
  );
  const options = { taskPackage: taskPackage(`${origin}/x.gvmi`, content), cacheFolder: cacheFolder(t) };
  const module = pathToFileURL(join(import.meta.dirname, '../../host/transfer/image.ts')).href;
  const script = `
    import { fetchImage } from ${JSON.stringify(module)};
    ${MEASURE}
    let timer;
    // From the first byte on: what is loaded before is not about downloads.
    const progress = () => {
      if (timer) return;
      last = process.threadCpuUsage();
      timer = setInterval(look, ${TICK});
    };
    await fetchImage({ ...${JSON.stringify(options)}, progress });
    clearInterval(timer);
    process.stdout.write(JSON.stringify({ turns, most: most / 1000 }));
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output] = await once(child.stdout, 'data');
  const { turns, most } = JSON.parse(String(output)) as { turns: number; most: number };
  t.ok(turns > 5, `${turns} turns`);
  t.ok(most <= MOST, `the longest took ${most.toFixed(1)} ms of CPU`);
  t.comment(`${turns} turns, the longest ${most.toFixed(1)} ms`);
});
