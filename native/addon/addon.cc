// The addon's entry: its functions by name, as native/face.ts and, under Node, native/host-face.ts declare them.
#include <napi.h>
#include <signal.h>

#include "callback.h"
#include "exports.h"

namespace yavm {
namespace {

struct Export {
  const char* name;
  napi_callback call;
};

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
napi_value Call(napi_env env, napi_callback_info info) {
  return Function(Napi::CallbackInfo(env, info));
}

constexpr Export kExports[] = {
    {"mount", Call<Mount>},
    {"umount", Call<Umount>},
    {"switchRoot", Call<SwitchRoot>},
    {"pivotRoot", Call<PivotRoot>},
    {"chroot", Call<Chroot>},
    {"statfs", Call<Statfs>},
    {"loadModule", Call<LoadModule>},
    {"deleteModule", Call<DeleteModule>},
    {"spawn", Call<Spawn>},
    {"waitPid", Call<WaitPid>},
    {"reap", Call<Reap>},
    {"kill", Call<Kill>},
    {"killPidfd", Call<KillPidfd>},
    {"openPty", Call<OpenPty>},
    {"setWindowSize", Call<SetWindowSize>},
    {"getPid", Call<GetPid>},
    {"getParentPid", Call<GetParentPid>},
    {"getUid", Call<GetUid>},
    {"signalFd", Call<SignalFd>},
    {"readSignals", Call<ReadSignals>},
    {"ueventOpen", Call<UeventOpen>},
    {"ueventRead", Call<UeventRead>},
    {"prctl", Call<Prctl>},
    {"unshare", Call<Unshare>},
    {"links", Call<Links>},
    {"linkSet", Call<LinkSet>},
    {"addressAdd", Call<AddressAdd>},
    {"addressRemove", Call<AddressRemove>},
    {"routeAdd", Call<RouteAdd>},
    {"routeRemove", Call<RouteRemove>},
    {"linkFeature", Call<LinkFeature>},
    {"mknod", Call<Mknod>},
    {"ioctlInt", Call<IoctlInt>},
    {"ioctlBuffer", Call<IoctlBuffer>},
    {"open", Call<Open>},
    {"openBeneath", Call<OpenBeneath>},
    {"close", Call<Close>},
    {"dup", Call<Dup>},
    {"seek", Call<Seek>},
    {"read", Call<Read>},
    {"readText", Call<ReadText>},
    {"writeText", Call<WriteText>},
    {"write", Call<Write>},
    {"fsync", Call<Fsync>},
    {"fstat", Call<Fstat>},
    {"stat", Call<Stat>},
    {"lstat", Call<Lstat>},
    {"readlink", Call<ReadLink>},
    {"readDirectory", Call<ReadDirectory>},
    {"mkdir", Call<Mkdir>},
    {"mkdirAt", Call<MkdirAt>},
    {"symlink", Call<Symlink>},
    {"symlinkAt", Call<SymlinkAt>},
    {"linkAt", Call<LinkAt>},
    {"mknodAt", Call<MknodAt>},
    {"readlinkAt", Call<ReadLinkAt>},
    {"statAt", Call<StatAt>},
    {"unlinkAt", Call<UnlinkAt>},
    {"renameAt", Call<RenameAt>},
    {"chownAt", Call<ChownAt>},
    {"chmodAt", Call<ChmodAt>},
    {"chmodFd", Call<ChmodFd>},
    {"chownFd", Call<ChownFd>},
    {"utimesAt", Call<UtimesAt>},
    {"unlink", Call<Unlink>},
    {"rmdir", Call<Rmdir>},
    {"decodeName", Call<DecodeName>},
    {"encodeName", Call<EncodeName>},
    {"tarHeader", Call<ReadTarHeader>},
    {"pageOffset", Call<PageOffset>},
    {"writeSparse", Call<WriteSparse>},
    {"truncate", Call<Truncate>},
    {"splice", Call<Splice>},
    {"putFile", Call<PutFile>},
    {"putTarFiles", Call<PutTarFiles>},
    {"listXattrs", Call<ListXattrs>},
    {"getXattr", Call<GetXattr>},
    {"setXattr", Call<SetXattr>},
    {"pipe", Call<Pipe>},
    {"socketPair", Call<SocketPair>},
    {"socketListener", Call<SocketListener>},
    {"setNonBlocking", Call<SetNonBlocking>},
    {"flock", Call<Flock>},
    {"pending", Call<Pending>},
    {"watch", Call<Watch>},
    {"unwatch", Call<Unwatch>},
    {"cborEncode", Call<CborEncode>},
    {"cborDecode", Call<CborDecode>},
    {"channelOpen", Call<ChannelOpen>},
    {"channelSend", Call<ChannelSend>},
    {"channelQueued", Call<ChannelQueued>},
    {"channelClose", Call<ChannelClose>},
    {"sourceOpen", Call<SourceOpen>},
    {"sourceSent", Call<SourceSent>},
    {"sourceDrain", Call<SourceDrain>},
    {"sourceStop", Call<SourceStop>},
    {"sinkOpen", Call<SinkOpen>},
    {"sinkStop", Call<SinkStop>},
    {"dropProgramPages", Call<DropProgramPages>},
    {"sync", Call<Sync>},
    {"reboot", Call<Reboot>},
    {"debugExit", Call<DebugExit>},
    {"setHostname", Call<SetHostname>},
    {"setClock", Call<SetClock>},
    {"monotonic", Call<Monotonic>},
    {"addEntropy", Call<AddEntropy>},
    {"uname", Call<Uname>},
#ifdef YAVM_UNDER_NODE
    {"exchange", Call<Exchange>},
    {"cable", Call<Cable>},
    {"udpConnect", Call<UdpConnect>},
    {"dropShort", Call<DropShort>},
    {"tcpConnect", Call<TcpConnect>},
    {"tcpListen", Call<TcpListen>},
    {"receiveDatagrams", Call<ReceiveDatagrams>},
    {"sendDatagrams", Call<SendDatagrams>},
    {"receiveBytes", Call<ReceiveBytes>},
    {"sendBytes", Call<SendBytes>},
#endif
};

}  // namespace
}  // namespace yavm

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  yavm::SetCurrentEnv(env);
  // A reader that is gone is an error of the write, EPIPE, not the end of the process.
  signal(SIGPIPE, SIG_IGN);
  for (const yavm::Export& row : yavm::kExports) {
    napi_value function = nullptr;
    napi_create_function(env, row.name, NAPI_AUTO_LENGTH, row.call, nullptr, &function);
    napi_set_named_property(env, exports, row.name, function);
  }
  return exports;
}

extern "C" __attribute__((visibility("default"))) int32_t node_api_module_get_api_version_v1() { return NAPI_VERSION; }
