// Who is at the other end of the control socket, and what they may do there.
//
// Two hurdles, one behind the other. The mode of the socket file says who may connect: its owner
// and its group, or everybody where `control.readers` lets some of them read. The credentials that
// the kernel keeps of the process that connected (SO_PEERCRED, SO_PEERGROUPS; nobody can forge
// them) say what they may do:
//
//   root, the user the daemon runs as, members of control.group    read and change
//   members of control.readers, or with `everyone` all             read
//   all others                                                     nothing
//
// ControlAccess is a value; its checks are pure. Only ForConfig asks the host, for groups by their
// names: that may take long (a directory service), so it is for the start.
#ifndef GUIDEWAY_CONTROL_PEER_H_
#define GUIDEWAY_CONTROL_PEER_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace guideway {

struct LoadedConfig;

// The process that connected, as it was then. Ids are those of the daemon's user namespace.
struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::vector<gid_t> groups;  // supplementary ones

  bool IsIn(gid_t group) const;
};

// «root», or «uid 1234» for a user that /etc/passwd does not have. It is the only place that is
// asked: a directory service may take long.
std::string NameOf(const Peer& peer);

// Of a connected Unix socket. An error is one of the kernel's.
absl::StatusOr<Peer> PeerOf(int fd);

class ControlAccess {
 public:
  struct Group {
    gid_t id;
    std::string name;  // for messages
  };

  // The user and the group that this process runs as, and no readers.
  ControlAccess();

  // What `control` says. InvalidArgument with the place of a group that this host does not have.
  static absl::StatusOr<ControlAccess> ForConfig(const LoadedConfig& loaded);

  // PermissionDenied with a text for the peer.
  absl::Status MayRead(const Peer& peer) const;
  absl::Status MayChange(const Peer& peer) const;

  // Of the socket file.
  mode_t mode() const { return readers_ || everyone_reads_ ? 0666 : 0660; }
  const Group& group() const { return group_; }

 private:
  uid_t owner_;
  Group group_;
  std::optional<Group> readers_;
  bool everyone_reads_ = false;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_PEER_H_
