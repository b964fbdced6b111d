/** What a package brings for the user's shell: manual pages and completions, made from the commands themselves. */
import { gzipSync } from 'node:zlib';
import { bashScript } from '../../host/cli/completion-bash.ts';
import { fishScript } from '../../host/cli/completion-fish.ts';
import { allNodes, commandTree } from '../../host/cli/completion-tree.ts';
import { zshScript } from '../../host/cli/completion-zsh.ts';
import { manPage, pageName } from '../../host/cli/man-page.ts';

export interface ShellFile {
  /** Debian's path, from the root. */
  installed: string;
  /** Path in the archive's folder. */
  archived: string;
  bytes: Uint8Array;
}

/** One page for each command, compressed as Debian wants them, and a script for each shell. The same commands make the same bytes. */
export async function shellFiles(version: string): Promise<ShellFile[]> {
  const tree = await commandTree();
  const pages = allNodes(tree).map((node): ShellFile => {
    const name = `${pageName(node)}.1.gz`;
    // Node states no time in it.
    const bytes = gzipSync(manPage(node, version), { level: 9 });
    return { installed: `usr/share/man/man1/${name}`, archived: `man/man1/${name}`, bytes };
  });
  const script = (installed: string, archived: string, text: string): ShellFile => ({
    installed: `usr/share/${installed}`,
    archived: `completions/${archived}`,
    bytes: Buffer.from(text),
  });
  return [
    ...pages,
    script('bash-completion/completions/ya-vm', 'ya-vm.bash', bashScript(tree)),
    script('zsh/vendor-completions/_ya-vm', '_ya-vm', zshScript(tree)),
    script('fish/vendor_completions.d/ya-vm.fish', 'ya-vm.fish', fishScript(tree)),
  ];
}
