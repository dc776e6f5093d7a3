#include "maglev/snapshot.h"

#include <gtest/gtest.h>

#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using testing::MakeSnapshot;

IpAddress Address(const char* text) { return IpAddress::Parse(text).value(); }

TEST(Snapshot, FindsServicesByAddressProtocolAndPort) {
  const auto snapshot =
      MakeSnapshot({{.name = "web",
                     .vips = {"198.51.100.10", "198.51.100.11"},
                     .ports = {{443, 443}, {80, 80}, {8000, 8100}, {65535, 65535}}},
                    {.name = "dns",
                     .vips = {"198.51.100.10"},
                     .protocol = Protocol::kUdp,
                     .ports = {{80, 80}}}});
  const auto find = [&](const char* vip, uint8_t protocol, uint16_t port) -> std::string {
    const Vip::Served* served = snapshot->vips().Find(Address(vip))->Find(protocol, port);
    return served == nullptr ? "-" : snapshot->ServiceOf(static_cast<ServiceId>(served->id)).name;
  };
  EXPECT_EQ(find("198.51.100.10", 6, 80), "web");
  EXPECT_EQ(find("198.51.100.11", 6, 443), "web");
  EXPECT_EQ(find("198.51.100.10", 17, 80), "dns");
  EXPECT_EQ(find("198.51.100.11", 17, 80), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 81), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 0), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 7999), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 8000), "web");
  EXPECT_EQ(find("198.51.100.10", 6, 8100), "web");
  EXPECT_EQ(find("198.51.100.10", 6, 8101), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 65535), "web");
  EXPECT_EQ(find("198.51.100.10", 1, 0), "-");
  EXPECT_EQ(snapshot->vips().Find(Address("198.51.100.12")), nullptr);
}

TEST(Snapshot, TheLongestVipPrefixWins) {
  const auto snapshot = MakeSnapshot(
      {{.name = "wide", .vips = {"198.51.100.0/24", "2001:db8::/32"}, .ports = {{80, 81}}},
       {.name = "narrow", .vips = {"198.51.100.64/26", "2001:db8:1::/48"}, .ports = {{80, 80}}},
       {.name = "host", .vips = {"198.51.100.65"}, .ports = {{80, 80}}},
       {.name = "all", .vips = {"198.51.100.128/25"}, .protocol = Protocol::kAny}});
  const auto find = [&](const char* vip, uint8_t protocol, uint16_t port) -> std::string {
    const Vip* found = snapshot->vips().Find(Address(vip));
    if (found == nullptr) return "no VIP";
    const Vip::Served* served = found->Find(protocol, port);
    return served == nullptr ? "-" : snapshot->ServiceOf(static_cast<ServiceId>(served->id)).name;
  };
  EXPECT_EQ(find("198.51.100.63", 6, 81), "wide");
  EXPECT_EQ(find("198.51.100.64", 6, 80), "narrow");
  EXPECT_EQ(find("198.51.100.64", 6, 81), "-") << "served by a shorter prefix only";
  EXPECT_EQ(find("198.51.100.65", 6, 80), "host");
  EXPECT_EQ(find("198.51.100.65", 6, 81), "-");
  EXPECT_EQ(find("198.51.100.128", 47, 0), "all");
  EXPECT_EQ(find("198.51.100.255", 17, 65535), "all");
  EXPECT_EQ(find("198.51.101.0", 6, 80), "no VIP");
  EXPECT_EQ(find("2001:db8:0:1::1", 6, 81), "wide");
  EXPECT_EQ(find("2001:db8:1::1", 6, 80), "narrow");
  EXPECT_EQ(find("2001:db9::1", 6, 80), "no VIP");
}

TEST(Snapshot, FindsBackendsByIdWithGaps) {
  const auto snapshot =
      MakeSnapshot({{.backends = {{.name = "a", .address = "10.0.0.1", .id = 3},
                                  {.name = "b", .address = "10.0.0.2", .id = 9}}}});
  EXPECT_EQ(snapshot->FindBackend(3)->name, "a");
  EXPECT_EQ(snapshot->FindBackend(9)->name, "b");
  EXPECT_TRUE(snapshot->HasBackend(3));
  for (BackendId id : {BackendId{0}, BackendId{4}, BackendId{10}, kNoBackend, ~BackendId{0}}) {
    EXPECT_EQ(snapshot->FindBackend(id), nullptr) << id;
    EXPECT_FALSE(snapshot->HasBackend(id)) << id;
  }
}

TEST(SnapshotDeathTest, RefusesTwoServicesOnOneEndpoint) {
  EXPECT_DEATH(MakeSnapshot({{.name = "a"}, {.name = "b"}}), "one service has a VIP");
  EXPECT_DEATH(MakeSnapshot({{.backends = {{.name = "a", .address = "10.0.0.1", .id = 3},
                                           {.name = "b", .address = "10.0.0.2", .id = 3}}}}),
               "backend ids are unique");
}

}  // namespace
}  // namespace guideway
