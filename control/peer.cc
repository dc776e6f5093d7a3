#include "control/peer.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "control/config/config.h"
#include "control/config/diagnostics.h"

namespace guideway {
namespace {

constexpr char kEveryone[] = "everyone";

// A group by the call `get`, getgrnam_r or getgrgid_r with what it is asked for; nothing if the
// host has none.
template <typename Get>
std::optional<ControlAccess::Group> FindGroup(const Get& get) {
  // A group's members are in there too.
  for (size_t size = 1024; size <= (size_t{16} << 20); size *= 4) {
    std::vector<char> buffer(size);
    struct group entry;
    struct group* found = nullptr;
    const int error = get(&entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) continue;
    if (found == nullptr) return std::nullopt;
    return ControlAccess::Group{found->gr_gid, found->gr_name};
  }
  return std::nullopt;
}

std::optional<ControlAccess::Group> GroupByName(const std::string& name) {
  return FindGroup([&](struct group* entry, char* buffer, size_t size, struct group** found) {
    return getgrnam_r(name.c_str(), entry, buffer, size, found);
  });
}

ControlAccess::Group GroupById(gid_t id) {
  const auto found =
      FindGroup([&](struct group* entry, char* buffer, size_t size, struct group** found) {
        return getgrgid_r(id, entry, buffer, size, found);
      });
  return found.value_or(ControlAccess::Group{id, absl::StrCat(id)});
}

absl::StatusOr<ControlAccess::Group> ConfiguredGroup(absl::string_view place, absl::string_view key,
                                                     const std::string& name) {
  if (const auto found = GroupByName(name)) return *found;
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": control.", key, ": found ", Quote(absl::string_view(name)),
                   ", and this host has no such group; allowed: the name of a group",
                   key == "readers" ? ", or everyone" : "", " (groupadd --system NAME makes one)"));
}

}  // namespace

bool Peer::IsIn(gid_t group) const {
  return gid == group || std::find(groups.begin(), groups.end(), group) != groups.end();
}

std::string NameOf(const Peer& peer) {
  std::string name = absl::StrCat("uid ", peer.uid);
  FILE* const users = fopen("/etc/passwd", "re");
  if (users == nullptr) return name;
  char buffer[4096];
  struct passwd entry;
  struct passwd* found = nullptr;
  while (fgetpwent_r(users, &entry, buffer, sizeof(buffer), &found) == 0) {
    if (found->pw_uid != peer.uid) continue;
    name = found->pw_name;
    break;
  }
  fclose(users);
  return name;
}

absl::StatusOr<Peer> PeerOf(int fd) {
  Peer peer;
  ucred credentials;
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return absl::InternalError(std::strerror(errno));
  }
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  // Linux knows up to 65536; most have a few.
  for (peer.groups.resize(64);; peer.groups.resize(size / sizeof(gid_t))) {
    size = static_cast<socklen_t>(peer.groups.size() * sizeof(gid_t));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) == 0) break;
    if (errno != ERANGE) return absl::InternalError(std::strerror(errno));
  }
  peer.groups.resize(size / sizeof(gid_t));
  return peer;
}

ControlAccess::ControlAccess() : owner_(geteuid()), group_(GroupById(getegid())) {}

absl::StatusOr<ControlAccess> ControlAccess::ForConfig(const LoadedConfig& loaded) {
  const config::Control& control = loaded.config.control();
  ControlAccess access;
  if (control.has_group()) {
    auto group = ConfiguredGroup(loaded.places.at("control.group"), "group", control.group());
    if (!group.ok()) return group.status();
    access.group_ = *std::move(group);
  }
  if (control.readers() == kEveryone) {
    access.everyone_reads_ = true;
  } else if (control.has_readers()) {
    auto readers =
        ConfiguredGroup(loaded.places.at("control.readers"), "readers", control.readers());
    if (!readers.ok()) return readers.status();
    access.readers_ = *std::move(readers);
  }
  return access;
}

absl::Status ControlAccess::MayChange(const Peer& peer) const {
  if (peer.uid == 0 || peer.uid == owner_ || peer.IsIn(group_.id)) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      "user ", peer.uid, " may read, but not change anything or have files planned: ",
      "that is for root and for members of the group ", group_.name,
      group_.name == "root"
          ? " (control.group names another)"
          : absl::StrCat(" (adduser USER ", group_.name, ", which holds from the next login on)")));
}

absl::Status ControlAccess::MayRead(const Peer& peer) const {
  if (everyone_reads_ || (readers_ && peer.IsIn(readers_->id)) || MayChange(peer).ok()) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat("user ", peer.uid, " may not use the control socket: it is for root and for ",
                   "members of the group ", group_.name,
                   readers_ ? absl::StrCat(" and, to read, of the group ", readers_->name) : "",
                   " (adduser USER GROUP, which holds from the next login on)"));
}

}  // namespace guideway
