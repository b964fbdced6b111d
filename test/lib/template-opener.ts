/** A thread that opens a template again and again until it is told to stop, and says how often it found none. */
import { closeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { TemplateStore } from '../../host/runtime/template/store.ts';

const { folder, key, stop } = workerData as { folder: string; key: string; stop: Int32Array };
const store = new TemplateStore({ YA_VM_TEMPLATES: folder });
const kernels = new Set<string>();
let opened = 0;
let missed = 0;
parentPort?.postMessage('ready');
while (Atomics.load(stop, 0) === 0) {
  try {
    const template = store.open(key);
    if (template === null) missed++;
    else {
      opened++;
      kernels.add(template.record.kernel);
      closeSync(template.ram);
      closeSync(template.state);
    }
  } catch {
    missed++;
  }
}
parentPort?.postMessage({ opened, missed, kernels: [...kernels] });
