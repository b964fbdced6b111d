/** A sibling as a process of its own, which a test kills: `sibling-process.ts FOLDER ADDRESS`. Its roles go to standard output. */
import { openSibling } from './sibling.ts';

const [folder = '', address = ''] = process.argv.slice(2);
const { siblings, roles } = openSibling(folder, address);
let told = 0;
setInterval(() => {
  for (; told < roles.length; told++) process.stdout.write(`${roles[told]}\n`);
}, 5);
process.stdin.resume().on('end', () => void siblings.close().then(() => process.exit()));
