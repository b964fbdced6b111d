/** Ways out of an image's root by the names and links in its layers, and names that nothing can have. */
import type { LayerEscape } from './escapes.ts';
import { character, directory, file, hardlink, layerTar, symlink } from './layer-tar.ts';
import { gnuLong, paxHeader, rawTar } from './raw-tar.ts';

type Row = Omit<LayerEscape, 'kind'>;

/** Links that lead to each other. */
const loop = [symlink('a', 'b'), symlink('b', 'a')];

const ROWS: Row[] = [
  { what: 'a name that climbs', make: () => layerTar([file('../evil')]), says: /contains '\.\.'/ },
  {
    what: 'one that climbs in the middle',
    make: () => layerTar([file('a/../../evil')]),
    says: /contains '\.\.'/,
  },
  { what: 'one that climbs at its end', make: () => layerTar([directory('a/..')]), says: /contains '\.\.'/ },
  { what: 'a bare ..', make: () => layerTar([directory('..')]), says: /contains '\.\.'/ },
  { what: 'an absolute name', make: () => layerTar([file('/etc/evil')]), says: /is absolute/ },
  {
    what: 'an absolute name with two slashes',
    make: () => layerTar([file('//etc/evil')]),
    says: /is absolute/,
  },
  { what: 'an absolute name of a directory', make: () => layerTar([directory('/etc')]), says: /is absolute/ },
  {
    what: 'a name that climbs, in a pax header',
    make: () => rawTar(paxHeader({ path: '../../evil' }), { name: 'harmless' }),
    says: /contains '\.\.'/,
  },
  {
    what: 'an absolute name, in a global pax header',
    make: () => rawTar(paxHeader({ path: '/evil' }, 'g'), { name: 'harmless' }),
    says: /is absolute/,
  },
  {
    what: "a name that climbs, in GNU's form",
    make: () => rawTar(gnuLong('a/../../evil'), { name: 'harmless' }),
    says: /contains '\.\.'/,
  },
  {
    what: 'a name that climbs, by the prefix',
    make: () => rawTar({ name: 'evil', over: [[345, '../..']] }),
    says: /contains '\.\.'/,
  },
  {
    what: 'a name that climbs, of a file with holes',
    make: () =>
      rawTar(
        paxHeader({
          'GNU.sparse.major': '1',
          'GNU.sparse.minor': '0',
          'GNU.sparse.name': '../evil',
          'GNU.sparse.realsize': '0',
        }),
        { name: 'harmless', content: '0\n'.padEnd(512, '\0') },
      ),
    says: /contains '\.\.'/,
  },
  {
    what: 'a hard link to what is outside',
    make: () => layerTar([hardlink('h', '../../etc/passwd')]),
    says: /contains '\.\.'/,
  },
  {
    what: 'a hard link to a file of the host by its absolute name',
    make: () => layerTar([hardlink('h', '/etc/passwd')]),
    says: /is not there/,
  },
  {
    what: 'a hard link through a link to what is outside',
    make: () => layerTar([symlink('l', '/etc'), hardlink('h', 'l/passwd')]),
    says: /is not there/,
  },
  { what: 'a whiteout that climbs', make: () => layerTar([file('../.wh.etc')]), says: /contains '\.\.'/ },
  { what: 'a whiteout of ..', make: () => layerTar([file('d/.wh...')]), says: /hides no name/ },
  { what: 'a whiteout of .', make: () => layerTar([file('d/.wh..')]), says: /hides no name/ },
  { what: 'a whiteout of nothing', make: () => layerTar([file('d/.wh.')]), says: /hides no name/ },
  {
    what: 'an opaque mark that climbs',
    make: () => layerTar([file('../.wh..wh..opq')]),
    says: /contains '\.\.'/,
  },
  { what: 'an absolute whiteout', make: () => layerTar([file('/.wh.etc')]), says: /is absolute/ },
  {
    what: 'links in a circle',
    make: () => layerTar([...loop, file('a/x')]),
    says: /too many symbolic links/,
  },
  {
    what: 'a link to itself',
    make: () => layerTar([symlink('a', 'a'), file('a/x')]),
    says: /too many symbolic links/,
  },
  { what: 'a name through a file', make: () => layerTar([file('f'), file('f/x')]), says: /is no directory/ },
  {
    what: 'a name through a device',
    make: () => layerTar([character('dev/null', 1, 3), file('dev/null/x')]),
    says: /is no directory/,
  },
  {
    what: 'the root as a file',
    make: () => layerTar([file('./')].map((each) => ({ ...each, path: '.' }))),
    says: /the root is no directory/,
  },
  { what: 'an empty name', make: () => rawTar({ name: '' }), says: /is empty/ },
  {
    what: 'a NUL in a name',
    make: () => rawTar(paxHeader({ path: 'a\0b' }), { name: 'x' }),
    says: /contains a NUL/,
  },
  {
    what: 'a part that is too long',
    make: () => layerTar([file(`d/${'n'.repeat(256)}`)]),
    says: /more than 255/,
  },
  {
    what: 'a path that is too long',
    make: () => layerTar([file('d/'.repeat(2048))]),
    says: /longer than 4095/,
  },
  {
    what: 'a symbolic link to nothing',
    make: () => layerTar([symlink('l', '')]),
    says: /leads to no name/,
  },
  {
    what: 'a device with a number that squashfs cannot keep',
    make: () => layerTar([character('c', 4096, 0)]),
    says: /too large/,
  },
];

export const LAYER_ESCAPES: readonly LayerEscape[] = ROWS.map((row) => ({ kind: 'layer', ...row }));
