/** The files role under Node: what `/init --role files …` does under the engine. */
import { runFilesRole } from '../../guest/files/role.ts';
import { loadNative } from '../../native/load.ts';

runFilesRole(loadNative(), process.argv.slice(2), process.exit);
