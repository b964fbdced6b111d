/** Files of this host in a script: `local:PATH` as the `from` or `to` of a transfer. */
import { type Flex, flexMap, type Gsb } from '../gsb/index.ts';
import { type Place, publishFile, receiveFile } from '../node/index.ts';

/** A hash in front, which the exe-unit checks, stays in front. */
const LOCAL = /^(hash:(?:\/\/)?[^:]+:(?:0x)?[0-9a-f]+:)?local:(.+)$/is;

export interface SharedScript {
  /** With gftp URLs in the places of local files. */
  commands: Flex[];
  /** Nobody reaches the files any more; one that did not arrive completely leaves nothing. */
  close(): Promise<void>;
}

/** @throws {YavmError} YAVM_E_LOCAL_FILE; those of the bus */
export async function shareFiles(commands: readonly Flex[], gsb: Gsb): Promise<SharedScript> {
  const places: Place[] = [];
  const close = async () => {
    for (const place of places.splice(0)) await place.close();
  };
  const shared = async (value: Flex | undefined, open: typeof publishFile | typeof receiveFile) => {
    const [, hash = '', path] = (typeof value === 'string' && LOCAL.exec(value)) || [];
    if (path === undefined) return value;
    const place = await open(gsb, path);
    places.push(place);
    return hash + place.url;
  };
  try {
    const result: Flex[] = [];
    for (const command of commands) {
      const transfer = flexMap(flexMap(command)?.transfer);
      if (transfer === undefined) {
        result.push(command);
        continue;
      }
      const from = await shared(transfer.from, publishFile);
      const to = await shared(transfer.to, receiveFile);
      result.push({ transfer: { ...transfer, from, to } });
    }
    return { commands: result, close };
  } catch (error) {
    await close();
    throw error;
  }
}
