#include "control/peer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "tests/support/test_config.h"

namespace guideway {
namespace {

using testing::HasSubstr;

absl::StatusOr<ControlAccess> Access(const std::string& control) {
  return ControlAccess::ForConfig(LoadText(absl::StrCat(ConfigText("  []\n"), control, "\n")));
}

// Groups of Debian's, the same on every host.
constexpr gid_t kDaemon = 1, kAdm = 4, kUsers = 100;

TEST(ControlAccess, WhoMayDoWhat) {
  const Peer root = {.uid = 0, .gid = 0, .pid = 1, .groups = {}};
  const Peer own = {.uid = geteuid(), .gid = kUsers, .pid = 1, .groups = {}};
  const Peer by_gid = {.uid = 12345, .gid = kDaemon, .pid = 1, .groups = {}};
  const Peer by_groups = {.uid = 12345, .gid = kUsers, .pid = 1, .groups = {kAdm, kDaemon}};
  const Peer adm = {.uid = 12345, .gid = kUsers, .pid = 1, .groups = {kAdm}};
  const Peer stranger = {.uid = 12345, .gid = kUsers, .pid = 1, .groups = {kUsers}};
  const struct {
    const char* control;
    mode_t mode;
    const Peer* peer;
    bool reads;
    bool changes;
  } rows[] = {
      {"control: { group: daemon }", 0660, &root, true, true},
      {"control: { group: daemon }", 0660, &own, true, true},
      {"control: { group: daemon }", 0660, &by_gid, true, true},
      {"control: { group: daemon }", 0660, &by_groups, true, true},
      {"control: { group: daemon }", 0660, &adm, false, false},
      {"control: { group: daemon }", 0660, &stranger, false, false},
      {"control: { group: daemon, readers: adm }", 0666, &root, true, true},
      {"control: { group: daemon, readers: adm }", 0666, &by_gid, true, true},
      {"control: { group: daemon, readers: adm }", 0666, &adm, true, false},
      {"control: { group: daemon, readers: adm }", 0666, &stranger, false, false},
      {"control: { group: daemon, readers: everyone }", 0666, &stranger, true, false},
      {"control: { group: daemon, readers: everyone }", 0666, &by_groups, true, true},
      {"control: { readers: everyone }", 0666, &stranger, true, false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(absl::StrCat(row.control, " and user ", row.peer->uid));
    const auto access = Access(row.control);
    ASSERT_TRUE(access.ok()) << access.status();
    EXPECT_EQ(access->mode(), row.mode);
    EXPECT_EQ(access->MayRead(*row.peer).ok(), row.reads);
    EXPECT_EQ(access->MayChange(*row.peer).ok(), row.changes);
  }
}

TEST(ControlAccess, WithoutKeysItIsForTheDaemonsOwnGroup) {
  const auto access = Access("control: {}");
  ASSERT_TRUE(access.ok());
  EXPECT_EQ(access->group().id, getegid());
  EXPECT_EQ(access->mode(), 0660u);
  EXPECT_TRUE(access->MayChange({.uid = 12345, .gid = getegid(), .pid = 1, .groups = {}}).ok());
}

TEST(ControlAccess, AGroupThatIsNotThereIsNamedWithItsPlace) {
  EXPECT_EQ(
      Access("control: { group: no-such-group }").status().message(),
      "test.yaml:10:19: control.group: found \"no-such-group\", and this host has no such group; "
      "allowed: the name of a group (groupadd --system NAME makes one)");
  EXPECT_EQ(Access("control: { readers: no-such-group }").status().message(),
            "test.yaml:10:21: control.readers: found \"no-such-group\", and this host has no such "
            "group; allowed: the name of a group, or everyone (groupadd --system NAME makes one)");
}

TEST(Peer, IsTheProcessAtTheOtherEnd) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const auto peer = PeerOf(ends[0]);
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ(peer->uid, geteuid());
  EXPECT_EQ(peer->gid, getegid());
  EXPECT_EQ(peer->pid, getpid());
  std::vector<gid_t> groups(1024);
  groups.resize(static_cast<size_t>(getgroups(static_cast<int>(groups.size()), groups.data())));
  EXPECT_EQ(peer->groups, groups);
  close(ends[0]);
  EXPECT_FALSE(PeerOf(ends[0]).ok());
  close(ends[1]);
}

}  // namespace
}  // namespace guideway
