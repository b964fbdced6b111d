/** Node-API as the guest's engine has it, against Node: one odd addon, one script, the same answers. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeOnce, OBJECTS } from '../../build/compile.ts';
import { buildEngineTest, compileBytecode } from '../../build/engine.ts';
import { bundle } from '../../build/guest.ts';
import { ROOT, runTool } from '../../build/tool.ts';
import { linesOf, runBytecode } from './engine-host.ts';

const PROBE = join(import.meta.dirname, 'probe');
const FOLDER = join(OBJECTS, 'probe-test');

const sources = readdirSync(PROBE)
  .filter((name) => name.endsWith('.cc'))
  .sort()
  .map((name) => join(PROBE, name));

/** The probe as an addon of Node. */
async function buildForNode(): Promise<string> {
  const out = join(FOLDER, 'probe.node');
  const includes = ['node-addon-api', 'node-api-headers/include'].map(
    (name) => `-I${join(ROOT, 'node_modules', name)}`,
  );
  const flags = [
    '-shared',
    '-fPIC',
    '-std=gnu++17',
    '-O1',
    '-fno-exceptions',
    '-fno-rtti',
    '-DNAPI_VERSION=8',
  ];
  const args = [...flags, '-DNAPI_DISABLE_CPP_EXCEPTIONS', ...includes, ...sources];
  await makeOnce(out, args.join(' '), [...sources, join(PROBE, 'probe.h')], (file) =>
    runTool('g++', [...args, '-o', file]),
  );
  return out;
}

async function transcriptOfNode(): Promise<string[]> {
  const script = join(PROBE, 'under-node.ts');
  const output = await runTool(process.execPath, [
    '--expose-gc',
    '--no-warnings',
    script,
    await buildForNode(),
  ]);
  return output.split('\n').filter((line) => line !== '');
}

async function transcriptOfEngine(sanitize: boolean): Promise<string[]> {
  const host = await buildEngineTest({
    addon: sources,
    sanitize,
    out: join(FOLDER, sanitize ? 'sanitized' : 'host'),
  });
  const [script, bytecode] = [join(FOLDER, 'probe.js'), join(FOLDER, 'probe.bin')];
  await bundle({ entry: join(PROBE, 'under-engine.ts'), out: script, test: true });
  await compileBytecode(script, bytecode, 'probe.js');
  const result = await runBytecode(host, bytecode);
  if (result.code !== 0)
    throw new Error(`ended with ${result.code ?? result.signal}:\n${result.stderr.slice(-4000)}`);
  return linesOf(result);
}

const expected = await transcriptOfNode();

t.test('the probe has something to say', async (t) => {
  t.ok(expected.length > 400, `${expected.length} lines`);
});

for (const sanitize of [false, true]) {
  const name = sanitize ? 'with the address and undefined-behaviour sanitizers' : 'as it ships';
  t.test(`every call gives what it gives under Node, ${name}`, async (t) => {
    t.setTimeout(0); // The first time, it compiles.
    const actual = await transcriptOfEngine(sanitize);
    const differing = expected.findIndex((line, index) => line !== actual[index]);
    t.equal(actual[differing], expected[differing], `line ${differing + 1}`);
    t.equal(actual.length, expected.length);
  });
}
