/** A worker thread that sends each frame of a link back: `workerData` is its end of a cable. */
import { parentPort, workerData } from 'node:worker_threads';
import { openFrameLink } from '../../host/network/nic/open.ts';
import { loadNative } from '../../native/load.ts';

const link = openFrameLink(loadNative(), workerData);
link.onBatch = ({ bytes, count, offsets, lengths }) => {
  for (let index = 0; index < count; index++) {
    link.send(bytes, offsets[index] as number, lengths[index] as number);
  }
};
link.onEnd = (error) => parentPort?.postMessage({ error });
parentPort?.postMessage('ready');
