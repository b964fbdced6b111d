// The functions behind native/face.ts and native/host-face.ts, by the file that they are in; addon.cc gives them their names.
#pragma once

#include <napi.h>

namespace yavm {

// mount.cc
Napi::Value Mount(const Napi::CallbackInfo& info);
Napi::Value Umount(const Napi::CallbackInfo& info);
Napi::Value SwitchRoot(const Napi::CallbackInfo& info);
Napi::Value PivotRoot(const Napi::CallbackInfo& info);
Napi::Value Chroot(const Napi::CallbackInfo& info);
Napi::Value Statfs(const Napi::CallbackInfo& info);

// module.cc
Napi::Value LoadModule(const Napi::CallbackInfo& info);
Napi::Value DeleteModule(const Napi::CallbackInfo& info);

// spawn.cc
Napi::Value Spawn(const Napi::CallbackInfo& info);

// process.cc
Napi::Value WaitPid(const Napi::CallbackInfo& info);
Napi::Value Reap(const Napi::CallbackInfo& info);
Napi::Value Kill(const Napi::CallbackInfo& info);
Napi::Value KillPidfd(const Napi::CallbackInfo& info);
Napi::Value GetPid(const Napi::CallbackInfo& info);
Napi::Value GetParentPid(const Napi::CallbackInfo& info);
Napi::Value GetUid(const Napi::CallbackInfo& info);
Napi::Value Prctl(const Napi::CallbackInfo& info);
Napi::Value Unshare(const Napi::CallbackInfo& info);

// pty.cc
Napi::Value OpenPty(const Napi::CallbackInfo& info);
Napi::Value SetWindowSize(const Napi::CallbackInfo& info);

// signals.cc
Napi::Value SignalFd(const Napi::CallbackInfo& info);
Napi::Value ReadSignals(const Napi::CallbackInfo& info);

// link.cc
Napi::Value Links(const Napi::CallbackInfo& info);
Napi::Value LinkSet(const Napi::CallbackInfo& info);

// address.cc
Napi::Value AddressAdd(const Napi::CallbackInfo& info);
Napi::Value AddressRemove(const Napi::CallbackInfo& info);

// route.cc
Napi::Value RouteAdd(const Napi::CallbackInfo& info);
Napi::Value RouteRemove(const Napi::CallbackInfo& info);

// link_feature.cc
Napi::Value LinkFeature(const Napi::CallbackInfo& info);

// device.cc
Napi::Value IoctlInt(const Napi::CallbackInfo& info);
Napi::Value IoctlBuffer(const Napi::CallbackInfo& info);

// path.cc
Napi::Value Mknod(const Napi::CallbackInfo& info);
Napi::Value Open(const Napi::CallbackInfo& info);
Napi::Value OpenBeneath(const Napi::CallbackInfo& info);
Napi::Value Stat(const Napi::CallbackInfo& info);
Napi::Value Lstat(const Napi::CallbackInfo& info);
Napi::Value ReadLink(const Napi::CallbackInfo& info);
Napi::Value Mkdir(const Napi::CallbackInfo& info);
Napi::Value MkdirAt(const Napi::CallbackInfo& info);
Napi::Value Symlink(const Napi::CallbackInfo& info);
Napi::Value SymlinkAt(const Napi::CallbackInfo& info);
Napi::Value LinkAt(const Napi::CallbackInfo& info);
Napi::Value MknodAt(const Napi::CallbackInfo& info);
Napi::Value ReadLinkAt(const Napi::CallbackInfo& info);
Napi::Value StatAt(const Napi::CallbackInfo& info);
Napi::Value UnlinkAt(const Napi::CallbackInfo& info);
Napi::Value RenameAt(const Napi::CallbackInfo& info);
Napi::Value ChownAt(const Napi::CallbackInfo& info);
Napi::Value ChmodAt(const Napi::CallbackInfo& info);
Napi::Value UtimesAt(const Napi::CallbackInfo& info);
Napi::Value Unlink(const Napi::CallbackInfo& info);
Napi::Value Rmdir(const Napi::CallbackInfo& info);

// name.cc
Napi::Value DecodeName(const Napi::CallbackInfo& info);
Napi::Value EncodeName(const Napi::CallbackInfo& info);

// tar_header.cc
Napi::Value ReadTarHeader(const Napi::CallbackInfo& info);

// bulk.cc
Napi::Value PageOffset(const Napi::CallbackInfo& info);
Napi::Value WriteSparse(const Napi::CallbackInfo& info);
Napi::Value Truncate(const Napi::CallbackInfo& info);
Napi::Value Splice(const Napi::CallbackInfo& info);

// small_files.cc
Napi::Value PutFile(const Napi::CallbackInfo& info);
Napi::Value PutTarFiles(const Napi::CallbackInfo& info);

// xattr.cc
Napi::Value ListXattrs(const Napi::CallbackInfo& info);
Napi::Value GetXattr(const Napi::CallbackInfo& info);
Napi::Value SetXattr(const Napi::CallbackInfo& info);

// directory.cc
Napi::Value ReadDirectory(const Napi::CallbackInfo& info);

// file.cc
Napi::Value Close(const Napi::CallbackInfo& info);
Napi::Value Dup(const Napi::CallbackInfo& info);
Napi::Value Seek(const Napi::CallbackInfo& info);
Napi::Value Read(const Napi::CallbackInfo& info);
Napi::Value ReadText(const Napi::CallbackInfo& info);
Napi::Value WriteText(const Napi::CallbackInfo& info);
Napi::Value Write(const Napi::CallbackInfo& info);
Napi::Value Fsync(const Napi::CallbackInfo& info);
Napi::Value Fstat(const Napi::CallbackInfo& info);
Napi::Value ChmodFd(const Napi::CallbackInfo& info);
Napi::Value ChownFd(const Napi::CallbackInfo& info);
Napi::Value SetNonBlocking(const Napi::CallbackInfo& info);
Napi::Value Flock(const Napi::CallbackInfo& info);
Napi::Value Pending(const Napi::CallbackInfo& info);

// pipe.cc
Napi::Value Pipe(const Napi::CallbackInfo& info);
Napi::Value SocketPair(const Napi::CallbackInfo& info);
Napi::Value SocketListener(const Napi::CallbackInfo& info);

// uevent.cc
Napi::Value UeventOpen(const Napi::CallbackInfo& info);
Napi::Value UeventRead(const Napi::CallbackInfo& info);

// watch.cc
Napi::Value Watch(const Napi::CallbackInfo& info);
Napi::Value Unwatch(const Napi::CallbackInfo& info);

// cbor_encode.cc, cbor_decode.cc
Napi::Value CborEncode(const Napi::CallbackInfo& info);
Napi::Value CborDecode(const Napi::CallbackInfo& info);

// stream.cc
Napi::Value ChannelOpen(const Napi::CallbackInfo& info);
Napi::Value ChannelSend(const Napi::CallbackInfo& info);
Napi::Value ChannelQueued(const Napi::CallbackInfo& info);
Napi::Value ChannelClose(const Napi::CallbackInfo& info);
Napi::Value SourceOpen(const Napi::CallbackInfo& info);
Napi::Value SourceSent(const Napi::CallbackInfo& info);
Napi::Value SourceDrain(const Napi::CallbackInfo& info);
Napi::Value SourceStop(const Napi::CallbackInfo& info);
Napi::Value SinkOpen(const Napi::CallbackInfo& info);
Napi::Value SinkStop(const Napi::CallbackInfo& info);

// program_pages.cc
Napi::Value DropProgramPages(const Napi::CallbackInfo& info);

// power.cc
Napi::Value Sync(const Napi::CallbackInfo& info);
Napi::Value Reboot(const Napi::CallbackInfo& info);
Napi::Value DebugExit(const Napi::CallbackInfo& info);
Napi::Value SetHostname(const Napi::CallbackInfo& info);
Napi::Value SetClock(const Napi::CallbackInfo& info);
Napi::Value Monotonic(const Napi::CallbackInfo& info);
Napi::Value AddEntropy(const Napi::CallbackInfo& info);
Napi::Value Uname(const Napi::CallbackInfo& info);

// sockets.cc (Node's alone)
Napi::Value Cable(const Napi::CallbackInfo& info);
Napi::Value UdpConnect(const Napi::CallbackInfo& info);
Napi::Value DropShort(const Napi::CallbackInfo& info);
Napi::Value TcpConnect(const Napi::CallbackInfo& info);
Napi::Value TcpListen(const Napi::CallbackInfo& info);

// exchange.cc (Node's alone)
Napi::Value Exchange(const Napi::CallbackInfo& info);

// datagrams.cc (Node's alone)
Napi::Value ReceiveDatagrams(const Napi::CallbackInfo& info);
Napi::Value SendDatagrams(const Napi::CallbackInfo& info);
Napi::Value ReceiveBytes(const Napi::CallbackInfo& info);
Napi::Value SendBytes(const Napi::CallbackInfo& info);

}  // namespace yavm
